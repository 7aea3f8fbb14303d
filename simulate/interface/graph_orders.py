"""`moe_replay.order`: the order of a training graph's operations with the lowest peak memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.simulate.ordering.optimizer_last import optimizer_last
from moe_replay.simulate.ordering.order_policies import order as ordered
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.graph_file import load_graph
from moe_replay.traces.training_graphs.training_graph import TrainingGraph


@dataclass(frozen=True, repr=False)
class Order:
    """An order of operations: `operations` as they run, `peak_bytes`, and `bound_bytes`, below which no order is.

    Bytes are above what is there in every order. `proved`: both are equal. `found_by`: who found it, and the bound.
    """

    operations: np.ndarray
    peak_bytes: int
    bound_bytes: int
    found_by: str

    @property
    def proved(self) -> bool:
        """Whether no order has a lower peak."""
        return self.peak_bytes == self.bound_bytes

    def __repr__(self) -> str:
        return f"Order({len(self.operations)} operations, {self.peak_bytes} bytes, proved={self.proved})"

    def summary(self) -> str:
        """Return peak, bound and gap in a line."""
        gap = self.peak_bytes / self.bound_bytes - 1 if self.bound_bytes else 0.0
        end = "proved" if self.proved else f"at most {gap:.2%} above the optimum"
        return f"peak {self.peak_bytes:,} bytes, bound {self.bound_bytes:,}, {end} ({self.found_by})"


def order(
    graph: TrainingGraph | Path | str,
    *,
    policy: str = "best",
    seconds: float = 60.0,
    reorder_only: bool = False,
    seed: int = 0,
) -> Order:
    """Order the operations of a training iteration for the lowest peak memory, within about `seconds`.

    `graph` is a training graph or its file, as `collect graph` writes it. `policy` is a name that `simulate order`
    takes; `reorder_only` keeps the optimizer's operations behind all others. InputError for bad input, and for a
    graph that a policy cannot take.
    """
    read = graph if isinstance(graph, TrainingGraph) else load_graph(graph)
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        raise InputError(f"seconds is {seconds!r}, allowed: numbers > 0")
    found = ordered(optimizer_last(read) if reorder_only else read, policy, seconds, seed)
    return Order(found.order_N, found.peak, found.lower_bound, found.by)
