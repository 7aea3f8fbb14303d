"""Bootstrap over seeds and samples together: what would other seeds and other samples have shown?

Every seed's model answers the same samples, so seeds and samples are crossed: a replicate draws samples with
replacement, the same ones for all seeds, and seeds with replacement. Row 0 of everything here is the data themselves,
so that one formula gives the estimate (row 0) and its replicates (the other rows).

What this can do: a difference between two series keeps their pairing, by seed and by sample, and a statistic such as
an interpolation is worked out anew in each replicate. What it cannot: the seeds' part of an interval rests on the
seeds at hand. Drawing S of S seeds makes that part's variance (S - 1) / S of the unbiased one and takes a normal
quantile for Student's t: with 8 seeds an interval that owed all its width to the seeds would be 0.78 as wide as the t
interval and cover 89 % rather than 95 %. Against that, noise of single answers (seed times sample) is counted up to
three times over (Owen 2007, The pigeonhole bootstrap), which errs on the safe side; `crossed_variance` does neither,
and is shown beside it. A verdict that hangs on the third digit of a limit is not supported by 8 seeds.
"""

import numpy as np

from moe_replay.analysis.estimates.intervals import LEVEL, Interval

REPLICATES = 2000
CHUNK = 200  # replicates at a time: 10,000 samples then take some 30 MB


def sample_sums(values_NV: np.ndarray, replicates: int, generator: np.random.Generator) -> np.ndarray:
    """Return sums_BV of columns over samples, float32 [1 + replicates, V]: row 0 as they are, the others redrawn.

    Right answers and quarters of experts are exact in float32 while their sums stay below 2**22, on any machine.
    """
    values_NV = np.ascontiguousarray(values_NV, dtype=np.float32)
    sums = [np.ones((1, len(values_NV)), np.float32) @ values_NV]
    for start in range(0, replicates, CHUNK):
        sums.append(redrawn(len(values_NV), min(CHUNK, replicates - start), generator) @ values_NV)
    return np.concatenate(sums)


def redrawn(count: int, replicates: int, generator: np.random.Generator) -> np.ndarray:
    """Return how often each of `count` things is drawn, float32 [replicates, count]: rows are multinomial."""
    drawn = generator.integers(0, count, size=(replicates, count), dtype=np.int32)
    times = np.empty((replicates, count), np.float32)
    for row, things in zip(times, drawn, strict=True):  # one row stays in the processor's cache, all of them do not
        row[:] = np.bincount(things, minlength=count)
    return times


def seed_shares(seeds: int, replicates: int, generator: np.random.Generator) -> np.ndarray:
    """Return share_BS: each seed's share in each replicate, float64 [1 + replicates, seeds]; row 0 equal shares."""
    drawn = redrawn(seeds, replicates, generator).astype(float)
    return np.concatenate([np.ones((1, seeds)), drawn]) / seeds


def estimate(values_B: np.ndarray, level: float = LEVEL) -> Interval:
    """Return row 0 with the percentile interval of the other rows."""
    low, high = np.quantile(values_B[1:], [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(values_B[0]), float(low), float(high))
