"""When a search has to finish: its clock starts when the kernels are compiled, which the first run of all has to do."""

from __future__ import annotations

import time
from functools import cache

import numpy as np

from moe_replay.simulate.ordering.kernels.lowest_state import forced_by, lowest_state, lowest_steps, sides_at
from moe_replay.simulate.ordering.kernels.state_search import free_ones, search
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.traces.training_graphs.training_graph import training_graph


def until_after(seconds: float) -> float:
    """Return the time, of time.monotonic, at which `seconds` will be over; compile first what searches call."""
    compile_searches()
    return time.monotonic() + seconds


@cache
def compile_searches() -> None:
    """Load, or compile first, every kernel, by one call of each on a graph of two operations."""
    rows = [("a", "", "forward", 0), ("b", "", "forward", 0)]
    touches = touches_of(training_graph("two", rows, [(1, 0, False, [1])]))
    arrays = touches.arrays
    lowest_steps(arrays)
    lowest_state(arrays, sides_at(arrays, 0), False)
    forced_by(arrays, 0, 1, touches.order_N, np.zeros(2, np.int8), np.zeros(2, np.int8))
    search(arrays, 0, 1, 4)
    free_ones(arrays, 1)
