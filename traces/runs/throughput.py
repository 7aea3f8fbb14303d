"""Throughput from completions that come in bunches: a batch of the last block ends up to B passes at one instant."""

from itertools import pairwise

import numpy as np

from moe_replay.traces.runs.run_window import Window

LEAST_INSTANTS = 5  # in a part: with fewer, two bunches that happen to end close together make any rate
LEAST_PARTS = 4
# 97.5 % quantiles of Student's t by degrees of freedom: parts are few, and scipy is not for here.
QUANTILES = {3: 3.1824, 4: 2.7764, 5: 2.5706, 6: 2.4469, 7: 2.3646, 8: 2.3060, 9: 2.2622}


def throughput_per_s(passes: dict[str, np.ndarray], window: Window) -> float:
    """Return the passes that end in the window per second of it.

    A closed loop's window opens and closes at instants of completions (a release is one), so it holds whole bunches.
    """
    return np.count_nonzero(window.holds(passes["end_ns"])) / window.seconds


def throughput_parts(passes: dict[str, np.ndarray], window: Window, parts: int) -> np.ndarray:
    """Return the rate in up to `parts` stretches between instants of completions; empty where there are too few.

    Stretches hold about equally many instants, whole bunches each: in stretches of equal length the bunch that
    happens to fall on either side of an edge would look like a change of rate.
    """
    end_ns = passes["end_ns"]
    inside = end_ns[(end_ns >= window.start_ns) & (end_ns <= window.end_ns)]
    instants_ns, counts = np.unique(inside, return_counts=True)
    parts = min(parts, (len(instants_ns) - 1) // LEAST_INSTANTS)
    if parts < LEAST_PARTS:
        return np.array([])
    edges = np.linspace(0, len(instants_ns) - 1, parts + 1).round().astype(int)
    ended = np.concatenate([[0], counts.cumsum()])
    spans = [(ended[b + 1] - ended[a + 1], instants_ns[b] - instants_ns[a]) for a, b in pairwise(edges)]
    return np.array([count / span_ns * 1e9 for count, span_ns in spans])


def half_width_of_parts(rates: np.ndarray) -> float:
    """Return half the width of the 95 % interval of a throughput, from the rates of its parts; NaN for too few."""
    freedom = len(rates) - 1
    if freedom not in QUANTILES:
        return float("nan")
    return float(QUANTILES[freedom] * rates.std(ddof=1) / np.sqrt(len(rates)))
