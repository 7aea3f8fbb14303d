"""Least peak memory first: the greedy order with which torch inductor lowers the peak of what it compiles.

Among the operations that may run it takes, of those that keep the peak so far, the one that leaves least behind; if all
raise it, the one that raises it least; then the earliest. After the public description in inductor's documentation and
"Buffer memory optimization for video codec application modeled in Simulink" (DAC 2006).
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.ordering.order_result import OrderResult, peak_of
from moe_replay.simulate.ordering.touches import Touches, touches_of
from moe_replay.traces.training_graphs.training_graph import TrainingGraph


def order(graph: TrainingGraph, seconds: float = 0, seed: int = 0) -> OrderResult:
    """Return the greedy order."""
    order_N = least_peak_first(touches_of(graph))
    return OrderResult(order_N, peak_of(graph, order_N), 0, "lpmf")


def least_peak_first(touches: Touches) -> np.ndarray:
    """Return the greedy order of a graph's touches, int32."""
    state = Greedy(touches)
    order = []
    while state.ready:
        room = state.peak - state.alive
        chosen = min(state.ready, key=lambda operation: state.cost(operation, room))
        state.run(chosen)
        order.append(chosen)
    return np.array(order, np.int32)


class Greedy:
    """What is there so far, what each operation would bring, and what would go after it."""

    def __init__(self, touches: Touches) -> None:
        self.touches = touches
        self.bytes_S = touches.bytes_S.tolist()
        # A storage that is kept has one touch more, which never comes.
        self.left_S = (touches.operations.lengths + touches.to_end_S).tolist()
        self.is_there_S = touches.from_start_S.tolist()
        self.waits_N = touches.before.lengths.tolist()
        self.ready = {operation for operation in range(touches.N) if not self.waits_N[operation]}
        self.brings_N = [self.new_bytes(operation) for operation in range(touches.N)]
        self.frees_N = [self.last_bytes(operation) for operation in range(touches.N)]
        self.alive = int(touches.bytes_S[touches.from_start_S].sum())
        self.peak = max(self.alive, int(touches.bytes_S[touches.to_end_S].sum()))  # which every order reaches

    def new_bytes(self, operation: int) -> int:
        """Return the bytes that an operation brings if it runs now, its work included."""
        new = sum(self.bytes_S[s] for s in self.touches.storages[operation] if not self.is_there_S[s])
        return new + int(self.touches.work_N[operation])

    def last_bytes(self, operation: int) -> int:
        """Return the bytes that go when an operation has run now, its work included."""
        last = sum(self.bytes_S[s] for s in self.touches.storages[operation] if self.left_S[s] == 1)
        return last + int(self.touches.work_N[operation])

    def cost(self, operation: int, room: int) -> tuple[int, int, int]:
        """Return what an operation is chosen by, the least first."""
        brings = self.brings_N[operation]
        return brings if brings > room else 0, brings - self.frees_N[operation], operation

    def run(self, operation: int) -> None:
        """Run an operation: what it makes is there, what it touched last goes, and others become ready."""
        self.ready.remove(operation)
        self.peak = max(self.peak, self.alive + self.brings_N[operation])
        self.alive += self.brings_N[operation] - self.frees_N[operation]
        changed = set()
        for storage in self.touches.storages[operation].tolist():
            # Touched by others for the first or, soon, for the last time.
            if not self.is_there_S[storage] or self.left_S[storage] == 2:
                changed.update(self.touches.operations[storage].tolist())
            self.is_there_S[storage] = True
            self.left_S[storage] -= 1
        for other in changed - {operation}:
            self.brings_N[other], self.frees_N[other] = self.new_bytes(other), self.last_bytes(other)
        for later in self.touches.after[operation].tolist():
            self.waits_N[later] -= 1
            if not self.waits_N[later]:
                self.ready.add(later)
