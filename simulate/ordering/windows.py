"""Orders made better piece by piece: windows around the peak are searched exactly, between the states at their ends.

A window is a stretch of an order. Its operations are put into the best order that there is between the state before it
and the state after it, backwards in time first, which is the shorter search by far in training graphs. That is repeated
where the peak is then, until no window lowers it.
"""

from __future__ import annotations

import time

import numpy as np

from moe_replay.simulate.ordering.cuts import searched
from moe_replay.simulate.ordering.deadline import until_after
from moe_replay.simulate.ordering.lpmf import least_peak_first
from moe_replay.simulate.ordering.order_bounds import cut_bound
from moe_replay.simulate.ordering.order_result import OrderResult, memory_at, peak_of
from moe_replay.simulate.ordering.touches import Touches, touches_of
from moe_replay.traces.training_graphs.training_graph import TrainingGraph

SIZES = (60, 100, 150)  # operations of a window
PLACES = (0.5, 0.25, 0.75)  # of the peak within it
STATES, STATES_PER_S = 300_000, 50_000  # at most, and where little time is left


def order(graph: TrainingGraph, seconds: float = 60, seed: int = 0) -> OrderResult:
    """Return the better of the captured and the greedy order, improved by windows."""
    touches, until = touches_of(graph), until_after(seconds)
    begun = min((np.arange(graph.N, dtype=np.int32), least_peak_first(touches)), key=lambda each: peak_of(graph, each))
    bound = cut_bound(touches)
    order_N = improved(graph, touches, begun, bound, until)
    return OrderResult(order_N, peak_of(graph, order_N), bound, "windows; cut")


def improved(graph: TrainingGraph, touches: Touches, order_N: np.ndarray, bound: int, until: float) -> np.ndarray:
    """Return an order whose peak no window lowers, or that reaches the bound, or the last when time is over."""
    memory_N = memory_at(graph, order_N)
    while memory_N.max() > bound and time.monotonic() < until:
        found_N = with_a_better_window(touches, order_N, memory_N, bound, until)
        if found_N is None:
            break
        order_N, memory_N = found_N, memory_at(graph, found_N)
    return order_N


def with_a_better_window(
    touches: Touches, order_N: np.ndarray, memory_N: np.ndarray, bound: int, until: float
) -> np.ndarray | None:
    """Return the order with a window around its peak below what the peak was; None where no window can be so."""
    peak, step = int(memory_N.max()), int(memory_N.argmax())
    for size in SIZES:
        for place in PLACES:
            begin = min(max(0, step - int(size * place)), max(0, touches.N - size))
            end = min(touches.N, begin + size)
            inside_N, done_N = np.zeros(touches.N, bool), np.zeros(touches.N, bool)
            inside_N[order_N[begin:end]], done_N[order_N[:begin]] = True, True
            part, part_N = touches.part(inside_N, done_N)
            states = int(max(1_000, min(STATES, STATES_PER_S * (until - time.monotonic()))))
            found_N, _ = searched(part, bound, peak - 1, states)
            if found_N is not None:
                return np.concatenate([order_N[:begin], part_N[found_N], order_N[end:]]).astype(np.int32)
            if time.monotonic() > until:
                return None
    return None
