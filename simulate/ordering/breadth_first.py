"""Breadth first: of the operations that may run, the one whose predecessors ran earliest.

After the public description of inductor's order of that name: an operation's priority is the sorted list of the steps
at which its predecessors ran.
"""

from __future__ import annotations

import heapq

import numpy as np

from moe_replay.simulate.ordering.order_result import OrderResult, peak_of
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.traces.training_graphs.training_graph import TrainingGraph


def order(graph: TrainingGraph, seconds: float = 0, seed: int = 0) -> OrderResult:
    """Return the order in which those come first that have waited longest."""
    touches = touches_of(graph)
    waits_N, step_N = touches.before.lengths.tolist(), [0] * graph.N
    ready = [([], operation) for operation in range(graph.N) if not waits_N[operation]]
    order_N = []
    while ready:
        _, operation = heapq.heappop(ready)
        step_N[operation] = len(order_N)
        order_N.append(operation)
        for later in touches.after[operation].tolist():
            waits_N[later] -= 1
            if not waits_N[later]:
                heapq.heappush(ready, (sorted(step_N[each] for each in touches.before[later].tolist()), later))
    return OrderResult(np.array(order_N, np.int32), peak_of(graph, order_N), 0, "bfs")
