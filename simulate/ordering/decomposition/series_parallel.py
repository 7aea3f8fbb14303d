"""Series-parallel graphs, ordered optimally by their decomposition (Kayaaslan et al., 2018).

Components in series are ordered one after another. Components in parallel are ordered each, and so become chains. Every
chain is cut where least is there. The parts before the cuts are merged as an out-tree, which is Liu's order of the
reverse, and those behind them as an in-tree. Exact where every storage has one last user whatever the order.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.ordering.decomposition.edge_model import Component, EdgeModel, bridge_in, edge_model, reduced
from moe_replay.simulate.ordering.decomposition.liu import Step, bytes_of, merge, steps_along
from moe_replay.simulate.ordering.order_result import OrderResult, peak_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.training_graph import TrainingGraph


def order(graph: TrainingGraph, seconds: float = 0, seed: int = 0) -> OrderResult:
    """Return the optimal order; InputError for a graph that is not series-parallel, with a bridge that obstructs it."""
    model = edge_model(graph)
    core = reduced(model)
    if len(core) > 1:
        model = edge_model(graph, is_reduced=True)
        core = reduced(model)
    if len(core) > 1:
        raise InputError(f"not series-parallel: {obstruction(graph, core)}")
    if model.shared:
        raise InputError(
            f"series-parallel, but storage {model.shared[0]} has several users of which any may be the last "
            f"({len(model.shared)} such storages); allowed: one last user"
        )
    order_N = Orders(model).of(next(iter(core.values())))
    peak = peak_of(graph, order_N)
    return OrderResult(np.array(order_N, np.int32), peak, peak, "series-parallel; series-parallel")


def obstruction(graph: TrainingGraph, core: dict) -> str:
    """Return in words what is left of a graph, and the Wheatstone bridge in it."""
    left = len({node for edge in core for node in edge if node < graph.N})
    bridge, names = bridge_in(core, graph.N), [*graph.names_N, "the start", "the end"]
    words = f"{left} of {graph.N} operations are left when all in series and parallel is joined"
    if bridge is None:
        return words
    a, b, c, d = (names[node] for node in bridge)
    return f"{words}, a Wheatstone bridge among them: {a} before {b} and {c}, {b} before {c}, both before {d}"


class Orders:
    """Orders of the components of one graph."""

    def __init__(self, model: EdgeModel) -> None:
        self.work_N = model.work_N
        self.in_N, self.out_N = bytes_of(model)

    def of(self, component: Component) -> list[int]:
        """Return the order of the nodes inside a component."""
        if component.series:
            parts = [[each] if isinstance(each, int) else self.of(each) for each in component.series]
            return [node for part in parts for node in part]
        return self.side_by_side(component.parallel) if component.parallel else []

    def start(self, component: Component) -> int:
        """Return the bytes of the edges with which a component begins."""
        first = component.series[:1] + component.parallel
        return component.bytes + sum(self.start(each) for each in first)

    def side_by_side(self, components: list[Component]) -> list[int]:
        """Return the order of components in parallel: to where each holds least, then on from there."""
        before, behind = [], []
        for component in components:
            start = self.start(component)
            steps = steps_along(self.of(component), start, self.in_N, self.out_N, self.work_N)
            levels = [start, *(step.left for step in steps)]
            cut = int(np.argmin(levels))
            before.append(turned(steps[:cut], start))
            behind.append(steps[cut:])
        return [step.operation for step in [*merge(before)[::-1], *merge(behind)]]


def turned(steps: list[Step], start: int) -> list[Step]:
    """Return a chain with time turned round: what was there before a step is what is left behind it."""
    levels = [start, *(step.left for step in steps)][: len(steps)]
    return [Step(step.operation, step.high, level) for step, level in zip(steps[::-1], levels[::-1], strict=True)]
