"""Depth first: operations with few bytes first, each right after what it needs.

After the public description of inductor's order of that name: operations are visited in ascending order of the bytes
that they read and write, and so are the predecessors of each.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.ordering.order_result import OrderResult, peak_of
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.traces.training_graphs.training_graph import TrainingGraph


def order(graph: TrainingGraph, seconds: float = 0, seed: int = 0) -> OrderResult:
    """Return the order in which each operation follows what it needs."""
    touches = touches_of(graph)
    bytes_N = [int(touches.bytes_S[touches.storages[operation]].sum()) for operation in range(graph.N)]
    by_bytes = sorted(range(graph.N), key=lambda operation: (bytes_N[operation], operation))
    seen_N, order_N = [False] * graph.N, []
    for first in by_bytes:
        stack = [(first, False)]
        while stack:
            operation, is_left = stack.pop()
            if is_left:
                order_N.append(operation)
            elif not seen_N[operation]:
                seen_N[operation] = True
                stack.append((operation, True))
                needed = sorted(touches.before[operation].tolist(), key=lambda each: (bytes_N[each], each))
                stack += [(each, False) for each in reversed(needed)]
    return OrderResult(np.array(order_N, np.int32), peak_of(graph, order_N), 0, "dfs")
