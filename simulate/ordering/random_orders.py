"""The best of many random orders: what a search has to beat."""

from __future__ import annotations

import time

import numpy as np

from moe_replay.simulate.ordering.order_result import OrderResult, peak_of
from moe_replay.simulate.ordering.touches import Touches, touches_of
from moe_replay.traces.training_graphs.training_graph import TrainingGraph

ORDERS = 1000


def order(graph: TrainingGraph, seconds: float = 60, seed: int = 0) -> OrderResult:
    """Return the best of 1,000 random orders, of fewer where the time runs out: at each step all that may run are
    equally likely."""
    touches, draws, until = touches_of(graph), np.random.default_rng(seed), time.monotonic() + seconds
    best_N, least, tried = None, 0, 0
    while best_N is None or (tried < ORDERS and time.monotonic() < until):
        order_N = random_order(touches, draws)
        peak, tried = peak_of(graph, order_N), tried + 1
        if best_N is None or peak < least:
            best_N, least = order_N, peak
    return OrderResult(best_N, least, 0, f"random, best of {tried}")


def random_order(touches: Touches, draws: np.random.Generator) -> np.ndarray:
    """Return an order in which each step takes any of the operations that may run, int32."""
    waits_N = touches.before.lengths.tolist()
    ready = [operation for operation in range(touches.N) if not waits_N[operation]]
    order = []
    for draw in draws.random(touches.N).tolist():
        at = int(draw * len(ready))
        ready[at], ready[-1] = ready[-1], ready[at]
        operation = ready.pop()
        order.append(operation)
        for later in touches.after[operation].tolist():
            waits_N[later] -= 1
            if not waits_N[later]:
                ready.append(later)
    return np.array(order, np.int32)
