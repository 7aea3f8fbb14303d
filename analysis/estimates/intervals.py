"""Confidence intervals of means, by Student's t: over replications, or over batch means inside one run."""

from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95


class Interval(NamedTuple):
    """A mean and the ends of its confidence interval; the ends are NaN where it is made of fewer than two values."""

    mean: float
    low: float
    high: float


def half_width(values: np.ndarray, level: float = LEVEL) -> float:
    """Return half the width of the t interval of the mean of independent `values`; NaN for fewer than two."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return float("nan")
    # scipy.special instead of scipy.stats: the same quantile without 0.8 s of import.
    quantile = special.stdtrit(len(values) - 1, (1 + level) / 2)
    return float(quantile * values.std(ddof=1) / np.sqrt(len(values)))


def mean_interval(values: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the mean of independent `values` with its t interval; NaN for no values at all."""
    values = np.asarray(values, dtype=float)
    if len(values) == 0:
        return Interval(float("nan"), float("nan"), float("nan"))
    mean, half = float(values.mean()), half_width(values, level)
    return Interval(mean, mean - half, mean + half)
