"""Figures as a page carries them: small WebP pictures, the smaller the less room there is."""

import base64
import io
from pathlib import Path

from PIL import Image

STEPS = ((1300, 75), (1000, 50), (800, 35))  # widest in pixels, quality; the first that fits
BASE64 = 4 / 3  # letters for a byte


def embedded(pictures: dict[str, Path], room: float) -> dict[str, str]:
    """Return {name: address} of pictures as data within a page, in at most `room` bytes; none where they do not fit."""
    for width, quality in STEPS:
        found = {name: compressed(path, width, quality) for name, path in pictures.items()}
        if sum(len(each) for each in found.values()) * BASE64 <= room:
            return {name: f"data:image/webp;base64,{base64.b64encode(each).decode()}" for name, each in found.items()}
    return {}


def compressed(path: Path, width: int, quality: int) -> bytes:
    """Return a picture as WebP, no wider than `width` pixels."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "WEBP", quality=quality, method=4)
    return written.getvalue()
