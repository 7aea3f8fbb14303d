"""The 1,797 digits that ship inside scikit-learn: small, but there on every machine."""

from pathlib import Path

import numpy as np

from moe_replay.collect.datasets.images import Images
from moe_replay.traces.errors import InputError

TEST_IMAGES = 360


def load_digits_images(data_dir: Path | None = None) -> Images:
    """Return the digits (8x8, values 0..16 scaled to 0..240), the last 360 as test set; `data_dir` is not needed."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise InputError("digits: needs scikit-learn, which this Python lacks: pip install scikit-learn") from None
    images_NF, label_N = load_digits(return_X_y=True)
    images_NF, label_N = (images_NF * 15).astype(np.uint8), label_N.astype(np.int64)
    cut = len(images_NF) - TEST_IMAGES
    return Images(
        "digits", (1, 8, 8), 10, images_NF[:cut], label_N[:cut], images_NF[cut:], label_N[cut:], False,
        "the last 360 digits in scikit-learn's order are the test set",
    )  # fmt: skip
