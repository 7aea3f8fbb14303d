"""Scores with fewer bits, so that shipped traces get smaller."""

import numpy as np

FULL_PRECISION = 23  # explicit bits of a float32's significand


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """Return float32 values rounded to `bits` explicit bits of their significand: order is kept, files get smaller."""
    dropped = FULL_PRECISION - bits
    if not dropped:
        return values
    pattern = np.ascontiguousarray(values).view(np.uint32) + np.uint32(1 << (dropped - 1))
    return (pattern & ~np.uint32((1 << dropped) - 1)).view(np.float32)
