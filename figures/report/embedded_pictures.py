"""Figures as a page carries them: WebP pictures of few colours, the smaller the less room there is."""

import base64
import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

# Widest in pixels, colours: the first that fits. Lines on white stay sharp so, and take less than with lossy colours.
STEPS = ((1300, 32), (1000, 24), (700, 16))
BASE64 = 4 / 3  # letters for a byte


def embedded(pictures: dict[str, Path], room: float) -> dict[str, str]:
    """Return {name: address} of pictures as data within a page, in at most `room` bytes; none where they do not fit."""
    opened = {name: Image.open(path).convert("RGB") for name, path in pictures.items()}
    for width, colours in STEPS:
        with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow computes outside of Python's lock
            written = threads.map(partial(compressed, width=width, colours=colours), opened.values())
            found = dict(zip(opened, written, strict=True))
        if sum(len(each) for each in found.values()) * BASE64 <= room:
            return {name: f"data:image/webp;base64,{base64.b64encode(each).decode()}" for name, each in found.items()}
    return {}


def compressed(picture: Image.Image, width: int, colours: int) -> bytes:
    """Return a picture as WebP, no wider than `width` pixels and of so many colours."""
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    few = picture.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).convert("RGB")
    written = io.BytesIO()
    few.save(written, "WEBP", lossless=True, quality=20, method=1)
    return written.getvalue()
