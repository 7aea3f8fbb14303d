"""Frames of a video clip, cut to a square and shrunk to what an image model takes. Decoded with PyAV."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class Clip:
    """A clip's frames as flat uint8 images [N, channels * height * width], like the images of a data set."""

    name: str
    digest: str
    frames_NF: np.ndarray
    every: int


def read_clip(path: Path, shape: tuple[int, int, int], every: int = 1, limit: int | None = None) -> Clip:
    """Return every `every`-th frame, at most `limit`: the middle square, area-averaged to `shape` (3, height, width).

    InputError for a missing file, one that holds no video, fewer than two frames, or a missing PyAV.
    """
    channels, height, width = shape
    if channels != 3:
        raise InputError(f"{path}: a model of {channels} channels, allowed 3, as the frames have")
    frames = []
    for number, frame in enumerate(decoded(path)):
        if number % every == 0 and (limit is None or len(frames) < limit):
            side = min(frame.shape[:2])
            top, left = (frame.shape[0] - side) // 2, (frame.shape[1] - side) // 2
            square = Image.fromarray(frame[top : top + side, left : left + side])
            small = np.asarray(square.resize((width, height), Image.Resampling.BOX))
            frames.append(small.transpose(2, 0, 1).ravel())
    if len(frames) < 2:
        raise InputError(f"{path}: {len(frames)} frames are left, allowed two or more")
    return Clip(path.stem, sha256_of(path)[:32], np.stack(frames), every)


def decoded(path: Path) -> Iterator[np.ndarray]:
    """Yield the frames of a clip's first video stream, uint8 [height, width, 3]."""
    try:
        import av
    except ImportError:
        raise InputError(f"{path}: clips need the package av, which this Python lacks: pip install av") from None
    if not path.is_file():
        raise InputError(f"{path}: no such clip")
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise InputError(f"{path}: holds no video")
            for frame in container.decode(video=0):
                yield frame.to_ndarray(format="rgb24")
    except (av.FFmpegError, ValueError) as error:
        raise InputError(f"{path}: not a clip that can be decoded ({error!s:.60})") from None
