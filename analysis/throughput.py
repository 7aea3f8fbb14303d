"""Throughput from completions that come in bunches: a batch of the last block ends up to B passes at one instant.

Counting completions in a fixed stretch is off by up to a bunch at either edge. So the rate is taken from one instant of
completions to a later one: the passes that end after the first and up to the last, over the time between them.
"""

from itertools import pairwise

import numpy as np

from analysis.run_window import Window


def completions(passes: dict[str, np.ndarray], window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Return (instants in ns, ascending; passes that end at each), both ends of the window included.

    A closed loop's window opens at an instant of completions: that bunch ends before what is measured begins.
    """
    end_ns = passes["end_ns"]
    return np.unique(end_ns[(end_ns >= window.start_ns) & (end_ns <= window.end_ns)], return_counts=True)


def throughput_per_s(instants_ns: np.ndarray, counts: np.ndarray) -> float:
    """Return passes per second from the first instant to the last; NaN for fewer than two instants."""
    if len(instants_ns) < 2:
        return float("nan")
    return float(counts[1:].sum() / (instants_ns[-1] - instants_ns[0]) * 1e9)


def throughput_parts(instants_ns: np.ndarray, counts: np.ndarray, parts: int) -> np.ndarray:
    """Return the rate in up to `parts` stretches with about equally many instants, at least two in each."""
    parts = min(parts, (len(instants_ns) - 1) // 2)
    if parts < 2:
        return np.array([])
    edges = np.linspace(0, len(instants_ns) - 1, parts + 1).round().astype(int)
    pieces = (slice(first, last + 1) for first, last in pairwise(edges))
    return np.array([throughput_per_s(instants_ns[piece], counts[piece]) for piece in pieces])
