"""The link whose ports explain what calibration exchanges took: one latency, one bandwidth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from moe_replay.simulate.policies.cluster.one_exchange import exchanged, one_link

ROUNDS, POINTS = 4, 33  # of the search for the best latency, each round around the best of the one before
UNIT = 1e9  # bytes per second at which the model's times are bytes


def fit_link(bytes_DDs: Sequence[np.ndarray], took_ns: Sequence[float]) -> dict:
    """Return latency_ns, bytes_per_s and error_percent of the link with the least squares of logarithmic errors.

    Times of the port model grow in proportion with latency and time per byte together. So for a latency given in bytes
    the best bandwidth is known, and only that latency is searched, between 0 and the largest exchange.
    `error_percent`: the mean absolute error of the exchanges that it was fitted to.
    """
    taken_N = np.asarray(took_ns, float)
    low, high = 0.0, float(max(bytes_DD.sum() for bytes_DD in bytes_DDs))
    best: tuple[float, float, np.ndarray] | None = None
    for _ in range(ROUNDS):
        points = np.linspace(low, high, POINTS)
        for latency_bytes in points.tolist():
            ratio_N = np.log(taken_N / [units(bytes_DD, latency_bytes) for bytes_DD in bytes_DDs])
            if best is None or ratio_N.var() < best[0]:
                best = float(ratio_N.var()), latency_bytes, ratio_N
        width = points[1] - points[0]
        low, high = max(best[1] - width, 0.0), best[1] + width
    _, latency_bytes, ratio_N = best
    ns_per_byte = float(np.exp(ratio_N.mean()))
    return {
        "latency_ns": round(latency_bytes * ns_per_byte), "bytes_per_s": float(f"{1e9 / ns_per_byte:.6g}"),
        "error_percent": round(100 * float(np.abs(np.exp(ratio_N.mean() - ratio_N) - 1).mean()), 3),
    }  # fmt: skip


def units(bytes_DD: np.ndarray, latency_bytes: float) -> int:
    """Return how long an exchange takes in the time of one byte, which is 1 ns at `UNIT`."""
    link = one_link(round(latency_bytes), UNIT)
    return max(message.end_ns for message in exchanged(bytes_DD, link))
