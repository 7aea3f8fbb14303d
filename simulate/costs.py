"""Costs: functions (layer, block, tokens) -> service_ns, whole ns, rounded once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from traces.cost_table import CostTable, neighbours
from traces.errors import InputError

Cost = Callable[[int, int, int], int]


class MeanCosts:
    """The mean curve of a cost table, piecewise linear, each value worked out once.

    InputError for a block or a size that was not measured: nothing is extrapolated, neither up nor down.
    """

    def __init__(self, table: CostTable) -> None:
        self.table = table
        self.known: dict[tuple[int, int, int], int] = {}

    def __call__(self, layer: int, block: int, tokens: int) -> int:
        """Return the service time of a batch of `tokens` in a block."""
        key = (layer, block, tokens)
        service_ns = self.known.get(key)
        if service_ns is None:
            service_ns = self.known[key] = round(self.table.service_ns(layer, block, tokens))
        return service_ns


class ResampledCosts:
    """A measured repetition, drawn anew for every batch, so that service times vary as they were seen to.

    At a measured size any of its repetitions is drawn. Between two measured sizes *one* uniform number picks the same
    quantile of the repetitions at both, and the two are interpolated linearly: the mean is that of `MeanCosts` and the
    spread lies between those of the neighbours. InputError as in `MeanCosts`.
    """

    def __init__(self, table: CostTable, rng: np.random.Generator) -> None:
        self.table, self.rng = table, rng
        self.known: dict[tuple[int, int], tuple[np.ndarray, list[np.ndarray]]] = {}

    def __call__(self, layer: int, block: int, tokens: int) -> int:
        """Draw the service time of a batch of `tokens` in a block."""
        measured, times_ns = self._repetitions(layer, block)
        below, above, weight = neighbours(measured, tokens, layer, block)
        share = self.rng.random()
        drawn_ns = [times[int(share * len(times))] for times in (times_ns[below], times_ns[above])]
        return round((1 - weight) * drawn_ns[0] + weight * drawn_ns[1])

    def _repetitions(self, layer: int, block: int) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return (measured sizes, their repetitions in ascending order of time) of a block; experts share theirs."""
        key = (0, 1) if block else (layer, 0)
        if key not in self.known:
            measured = self.table.repetitions(layer, block)
            self.known[key] = np.array(list(measured)), [np.sort(times) for times in measured.values()]
        return self.known[key]


def affine(fixed_ns: float, per_token_ns: float) -> Cost:
    """Return the cost a + b n for every block; InputError for a negative part."""
    if not (fixed_ns >= 0 and per_token_ns >= 0):
        raise InputError(f"affine costs {fixed_ns}, {per_token_ns} ns; allowed: two numbers >= 0")
    return lambda layer, block, tokens: round(fixed_ns + per_token_ns * tokens)


def constant(service_ns: int) -> Cost:
    """Return the cost that is the same for every batch of every block."""
    return affine(service_ns, 0)
