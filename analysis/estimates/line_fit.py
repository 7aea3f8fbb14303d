"""A straight line through accuracies that come in blocks (seeds), and the test whether it is one."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special

from moe_replay.analysis.estimates.intervals import LEVEL, Interval


@dataclass(frozen=True)
class LineFit:
    """A line with one intercept per block, against one free value per k.

    `slope` per unit of k; `intercept` of the average block; `share` is the part of the variation between values of k
    that the line explains; `F`, `df_lack`, `df_error`, `p` are the lack-of-fit test; `p_conservative` takes Box's
    lower bound of the degrees of freedom, (1, blocks - 1), which holds whatever the correlation inside a block is.
    `quadratic` is the coefficient of k^2 when it is added, None where nothing is left to judge it by.
    """

    slope: float
    intercept: float
    share: float
    F: float
    df_lack: int
    df_error: int
    p: float
    p_conservative: float
    quadratic: Interval | None

    def value_at(self, k: float) -> float:
        """Return the line's value at k."""
        return self.intercept + self.slope * k


def fit_line(values: pd.DataFrame) -> LineFit:
    """Return the fit to `values` (blocks as rows, k as columns, NaN for missing ones).

    Lack of fit: the full model `block + one value per k` against the reduced one `block + slope * k`. F is the mean
    square that freeing the values of k removes, over the mean square the full model leaves.
    """
    block, place = np.nonzero(values.notna().to_numpy())
    k = values.columns.to_numpy(dtype=float)[place]
    y = values.to_numpy()[block, place]
    blocks = np.eye(len(values))[block]
    levels = np.eye(values.shape[1])[place]
    rss_block, _ = residual(blocks, y)
    rss_line, coefficients = residual(np.column_stack([blocks, k]), y)
    rss_full, _ = residual(np.column_stack([blocks, levels[:, 1:]]), y)
    df_lack = values.shape[1] - 2
    df_error = len(y) - len(values) - values.shape[1] + 1
    between = rss_block - rss_full
    F, p, p_conservative = lack_of_fit(rss_line - rss_full, rss_full, df_lack, df_error, len(values))
    return LineFit(
        slope=float(coefficients[-1]), intercept=float(np.nanmean(y) - coefficients[-1] * k.mean()),
        share=float((rss_block - rss_line) / between) if between > 0 else float("nan"),
        F=F, df_lack=df_lack, df_error=df_error, p=p, p_conservative=p_conservative,
        quadratic=last_coefficient(np.column_stack([blocks, k, k**2]), y),
    )  # fmt: skip


def residual(design: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Return (residual sum of squares, coefficients) of least squares."""
    coefficients, *_ = np.linalg.lstsq(design, y, rcond=None)
    return float(np.sum((y - design @ coefficients) ** 2)), coefficients


def lack_of_fit(lack: float, error: float, df_lack: int, df_error: int, blocks: int) -> tuple[float, float, float]:
    """Return (F, p, conservative p); NaN where no degree of freedom is left."""
    if df_lack < 1 or df_error < 1 or blocks < 2:
        return float("nan"), float("nan"), float("nan")
    # No error at all happens in tests and with one seed copied: then any lack of fit is certain, and none is none.
    F = (lack / df_lack) / (error / df_error) if error > 0 else (np.inf if lack > 1e-12 else 0.0)
    return float(F), float(special.fdtrc(df_lack, df_error, F)), float(special.fdtrc(1, blocks - 1, F))


def last_coefficient(design: np.ndarray, y: np.ndarray) -> Interval | None:
    """Return the last coefficient of a regression with its t interval; None where nothing is left to judge it by."""
    left = len(y) - np.linalg.matrix_rank(design)
    if left < 1:
        return None
    rss, coefficients = residual(design, y)
    error = np.sqrt(rss / left * np.linalg.pinv(design.T @ design)[-1, -1])
    half = special.stdtrit(left, (1 + LEVEL) / 2) * error
    return Interval(float(coefficients[-1]), float(coefficients[-1] - half), float(coefficients[-1] + half))


def seed_contrasts(values: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return (slope, coefficient of k^2) of every complete block by itself.

    A t interval over them holds whatever the correlation between the values of one block is.
    """
    k = values.columns.to_numpy(dtype=float)
    if len(values) == 0 or len(k) < 3:
        return np.array([]), np.array([])
    return np.polyfit(k, values.to_numpy().T, 1)[0], np.polyfit(k, values.to_numpy().T, 2)[0]
