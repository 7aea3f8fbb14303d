"""What every image data set looks like in memory."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class Images:
    """Labelled images as flat bytes.

    `train_NF`, `test_NF`: uint8, channel by channel, row by row. `train_label_N`, `test_label_N`: int64.
    `shape`: (channels, height, width). `mirrored`: whether a mirrored image is still of its class (training flips it).
    `note`: what a reader must know beside any accuracy. Raises InputError where sizes or labels do not fit.
    """

    name: str
    shape: tuple[int, int, int]
    classes: int
    train_NF: np.ndarray
    train_label_N: np.ndarray
    test_NF: np.ndarray
    test_label_N: np.ndarray
    mirrored: bool
    note: str

    def __post_init__(self) -> None:
        features = int(np.prod(self.shape))
        for part, images_NF, label_N in (
            ("train", self.train_NF, self.train_label_N),
            ("test", self.test_NF, self.test_label_N),
        ):
            if images_NF.shape != (len(label_N), features) or not len(label_N):
                raise InputError(
                    f"{self.name} {part}: {images_NF.shape} images of {features} for {len(label_N)} labels"
                )
            if label_N.min() < 0 or label_N.max() >= self.classes:
                raise InputError(f"{self.name} {part}: label {label_N.max()}, allowed 0..{self.classes - 1}")

    @cached_property
    def digest(self) -> str:
        """A digest of every image and label."""
        state = hashlib.sha256()
        for values in (self.train_NF, self.train_label_N, self.test_NF, self.test_label_N):
            state.update(np.ascontiguousarray(values).data)
        return state.hexdigest()[:32]

    @property
    def about(self) -> dict:
        """What a table made of these images says of them."""
        return {"name": self.name, "digest": self.digest, "note": self.note}

    def mean_and_deviation(self) -> tuple[np.ndarray, np.ndarray]:
        """Return each channel's mean and standard deviation over the training images, float32, one per feature."""
        channels = self.train_NF.reshape(len(self.train_NF), self.shape[0], -1)
        pixels = self.shape[1] * self.shape[2]
        mean = channels.mean(axis=(0, 2), dtype=np.float64)
        deviation = np.sqrt((channels.astype(np.float32) ** 2).mean(axis=(0, 2), dtype=np.float64) - mean**2)
        return np.repeat(mean, pixels).astype(np.float32), np.repeat(deviation, pixels).astype(np.float32)

    def first(self, train: int | None, test: int | None) -> "Images":
        """Return the data set cut to its first images; None keeps all."""
        train_NF, test_NF = self.train_NF[:train], self.test_NF[:test]
        note = self.note
        if (len(train_NF), len(test_NF)) != (len(self.train_NF), len(self.test_NF)):
            cut = f"only the first {len(train_NF)} training and {len(test_NF)} test images"
            note = f"{note}; {cut}" if note else cut
        return replace(
            self, train_NF=train_NF, train_label_N=self.train_label_N[:train], test_NF=test_NF,
            test_label_N=self.test_label_N[:test], note=note,
        )  # fmt: skip
