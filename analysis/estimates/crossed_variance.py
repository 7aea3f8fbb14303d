"""The mean of a table of seeds by samples, with an interval from variance components: a check beside the bootstrap.

No way of drawing rows and columns again gives the variance of a crossed mean without bias (McCullagh 2000, Resampling
and exchangeable arrays); the bootstrap over both counts the noise of single answers three times. The components do
not: with mean squares of seeds, samples and the rest, (MS_seeds + MS_samples - MS_rest) / (S N) is unbiased, and
Satterthwaite's formula gives its degrees of freedom.
"""

import numpy as np
from scipy import special

from moe_replay.analysis.estimates.intervals import LEVEL, Interval


def crossed_interval(cells_SN: np.ndarray, level: float = LEVEL) -> Interval:
    """Return the mean of all cells and its t interval for other seeds and other samples.

    The variance is not allowed below that of noise alone, so that a chance excess of the rest cannot make it vanish.
    """
    seeds, samples = cells_SN.shape
    mean, row_S, column_N = cells_SN.mean(), cells_SN.mean(axis=1), cells_SN.mean(axis=0)
    rest_SN = cells_SN - row_S[:, None] - column_N + mean
    squares = np.array([samples * row_S.var(ddof=1), seeds * column_N.var(ddof=1),
                        (rest_SN**2).sum() / ((seeds - 1) * (samples - 1))])  # fmt: skip
    freedom = np.array([seeds - 1, samples - 1, (seeds - 1) * (samples - 1)])
    total = max(squares[0] + squares[1] - squares[2], squares[2])
    if total <= 0:
        return Interval(float(mean), float(mean), float(mean))
    degrees = total**2 / (squares**2 / freedom).sum()
    half = special.stdtrit(degrees, (1 + level) / 2) * np.sqrt(total / (seeds * samples))
    return Interval(float(mean), float(mean - half), float(mean + half))
