"""Running a captured iteration node by node in any order, and counting what is there meanwhile in three ways.

Predicted: the graph's own peak. Counted: the storages that torch really holds, each followed until it is freed.
Allocated: what the device's allocator says. A value is let go where the graph says that its storage is touched last,
and views are made anew wherever one is needed.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import fx

from moe_replay.collect.devices import synchronise
from moe_replay.collect.graphs.allocator_watch import watch_on
from moe_replay.collect.graphs.graph_lowering import Program
from moe_replay.collect.graphs.random_draws import draw_again
from moe_replay.collect.graphs.step_state import StepState
from moe_replay.collect.studies.allocation import StorageAllocation


@dataclass(frozen=True)
class OrderedRun:
    """What an order came to. Bytes are above what is there before and after every iteration.

    `held_N`: storages that are there when operation n has run, before any is let go; `needs`: bytes that the
    allocator gave while operation n ran; `outputs`: the loss and, without an optimizer, the gradients.
    """

    state: StepState
    outputs: tuple[torch.Tensor, ...]
    held_N: list[int]
    needs: dict[int, int]
    allocated: int
    seconds: float

    def counted(self, work_N: Sequence[int]) -> int:
        """Return the counted peak, given what the operations need for themselves."""
        return max(held + int(work) for held, work in zip(self.held_N, work_N, strict=True))


class Values:
    """The values of nodes while an order runs: those of operations are kept, views are made when they are asked for."""

    def __init__(self, program: Program, state: StepState) -> None:
        self.traced, self.kept = program.traced, {}
        inputs = iter(state.flat)
        for node in program.traced.graph.nodes:
            if node.op == "placeholder":
                self.kept[node] = next(inputs)
            elif node.op == "get_attr":
                self.kept[node] = getattr(self.traced, node.target)

    def of(self, node: fx.Node) -> object:
        """Return a node's value."""
        return self.kept[node] if node in self.kept else self.run(node)

    def run(self, node: fx.Node) -> object:
        """Run a node on the values of its arguments."""
        args, kwargs = self.arguments(node)
        return args[0][args[1]] if node.target is operator.getitem else node.target(*args, **kwargs)

    def arguments(self, node: fx.Node) -> tuple[tuple, dict]:
        """Return the values of a node's arguments."""
        return fx.node.map_arg((node.args, dict(node.kwargs)), self.of)

    def keep(self, node: fx.Node, result: object) -> None:
        """Keep what an operation returned, every part of it for itself."""
        self.kept[node] = list(result) if isinstance(result, tuple | list) else result

    def let_go(self, slots: list[tuple[fx.Node, int | None]]) -> None:
        """Let go of a storage, wherever it is kept."""
        for node, place in slots:
            if place is None:
                del self.kept[node]
            else:
                self.kept[node][place] = None


def run_in_order(program: Program, state: StepState, order_N: Sequence[int]) -> OrderedRun:
    """Run the operations of a program on a copy of a state, in an order that keeps the graph's edges."""
    own = state.copied()
    values, last = Values(program, own), last_touches(program, order_N)
    held_N = [0] * len(program.operations)
    device = own.flat[0].device
    synchronise(device)
    with own.seeded(), watch_on(device) as watch, StorageAllocation() as allocation:
        started = time.perf_counter()
        for place in order_N:
            node = program.operations[place]
            draw_again(node)
            args, kwargs = values.arguments(node)
            with watch.mark(place):
                result = node.target(*args, **kwargs)
            values.keep(node, result)
            held_N[place] = allocation.allocated()
            del args, kwargs, result
            for slots in last.get(place, ()):
                values.let_go(slots)
        synchronise(device)
        seconds = time.perf_counter() - started
    after = StepState(own.tensors, own.steps + 1, own.seed)
    outputs = tuple(values.of(node) for node in program.outputs)
    return OrderedRun(after, outputs, held_N, watch.needs, watch.peak, seconds)


def last_touches(program: Program, order_N: Sequence[int]) -> dict[int, list[list[tuple[fx.Node, int | None]]]]:
    """Return {operation: the slots of every storage that it touches last}; what is kept is touched later still."""
    step_N = {int(place): step for step, place in enumerate(order_N)}
    last: dict[int, list] = {}
    for storage in program.storages:
        if not storage.kept:
            place = max((storage.producer, *storage.users), key=step_N.__getitem__)
            last.setdefault(place, []).append(storage.slots)
    return last
