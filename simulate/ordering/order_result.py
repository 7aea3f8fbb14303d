"""What every order policy returns, and the replay that counts an order's peak: the one place that says what it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.training_graph import TrainingGraph


@dataclass(frozen=True)
class OrderResult:
    """An order with its certificate.

    `order_N` int32: the operations as they run; `peak` and `lower_bound` in bytes: no order of the graph has a peak
    below the bound; `proved`: whether both are equal, so that no order is better; `by`: which policy found the order
    and, behind a `;`, which argument gave the bound.
    """

    order_N: np.ndarray
    peak: int
    lower_bound: int
    by: str

    @property
    def proved(self) -> bool:
        """Whether no order has a lower peak."""
        return self.peak == self.lower_bound

    @property
    def gap(self) -> float:
        """How much lower than the peak the optimum may be, as a share of the bound."""
        return self.peak / self.lower_bound - 1 if self.lower_bound else float(self.peak > 0)


# order(graph, seconds, seed): an order of `graph` within about that time; the same seed gives the same order, as long
# as the time does not run out.
Policy = Callable[[TrainingGraph, float, int], OrderResult]


def memory_at(graph: TrainingGraph, order_N: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return memory_N int64: bytes that are there while step i of an order runs, its own work included.

    InputError where the order is none of the graph's.
    """
    step_N = steps_of(graph, order_N)
    first_S = np.where(graph.producer_S < 0, 0, step_N[graph.producer_S])
    last_S = first_S.copy()
    touched_S = np.flatnonzero(np.diff(graph.first_user_S1))
    if len(touched_S):
        last_S[touched_S] = np.maximum.reduceat(step_N[graph.user_U], graph.first_user_S1[touched_S])
    last_S[graph.kept_S] = graph.N - 1
    # One that is there from the start and that nobody touches or keeps is there at no step.
    is_there_S = (graph.producer_S >= 0) | graph.kept_S | (np.diff(graph.first_user_S1) > 0)
    change = np.zeros(graph.N + 1, np.int64)
    np.add.at(change, first_S[is_there_S], graph.bytes_S[is_there_S])
    np.subtract.at(change, last_S[is_there_S] + 1, graph.bytes_S[is_there_S])
    return np.cumsum(change[:-1]) + graph.work_N[np.asarray(order_N)]


def peak_of(graph: TrainingGraph, order_N: Sequence[int] | np.ndarray) -> int:
    """Return the most bytes that are there at any step of an order; InputError as `memory_at`."""
    return int(memory_at(graph, order_N).max())


def steps_of(graph: TrainingGraph, order_N: Sequence[int] | np.ndarray) -> np.ndarray:
    """Return step_N int64: when each operation runs; InputError for an order that leaves one out or breaks an edge."""
    order_N = np.asarray(order_N)
    if order_N.shape != (graph.N,) or order_N.dtype.kind not in "iu":
        raise InputError(f"order of shape {order_N.shape}, allowed the numbers of {graph.N} operations")
    outside_N = (order_N < 0) | (order_N >= graph.N)
    if outside_N.any():
        raise InputError(f"step {outside_N.argmax()}: operation {order_N[outside_N][0]}, allowed 0..{graph.N - 1}")
    absent = np.setdiff1d(np.arange(graph.N), order_N)
    if len(absent):
        raise InputError(f"operation {absent[0]} never runs ({len(absent)} such operations)")
    step_N = np.empty(graph.N, np.int64)
    step_N[order_N] = np.arange(graph.N)
    before_X, after_X = all_edges(graph).T
    for at in np.flatnonzero(step_N[before_X] >= step_N[after_X])[:1]:
        raise InputError(
            f"operation {after_X[at]} runs at step {step_N[after_X[at]]}, allowed after {before_X[at]}, "
            f"which runs at step {step_N[before_X[at]]}"
        )
    return step_N


def all_edges(graph: TrainingGraph) -> np.ndarray:
    """Return edge_X2 int64: (before, after) of every producer with its users, and the further edges; no pair twice."""
    producer_U = np.repeat(graph.producer_S, np.diff(graph.first_user_S1))
    own_U2 = np.stack([producer_U, graph.user_U], axis=1)[producer_U >= 0]
    return np.unique(np.concatenate([own_U2, graph.edge_E2]).astype(np.int64), axis=0).reshape(-1, 2)
