"""A training graph as edges between operations, and what of it is series-parallel.

In the edge model a storage is an edge from its producer to its last user, from a source before all operations where it
is there from the start, to a sink behind all where it is kept. A graph between source and sink is series-parallel if
joining parallel edges, and the two edges of a node that has no others, again and again, leaves one edge (Valdes,
Tarjan and Lawler 1982). What obstructs it is a Wheatstone bridge: a before b and c, b before c, b and c before d, on
paths that share nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from moe_replay.simulate.ordering.order_result import all_edges
from moe_replay.traces.training_graphs.training_graph import TrainingGraph

Edge = tuple[int, int]


@dataclass(eq=False)
class Component:
    """A part between two nodes: an edge of some bytes, or components in series (with the nodes between) or parallel."""

    bytes: int = 0
    series: list[Component | int] = field(default_factory=list)
    parallel: list[Component] = field(default_factory=list)

    @property
    def nodes(self) -> int:
        """How many nodes are inside."""
        inside = sum(1 if isinstance(each, int) else each.nodes for each in self.series)
        return inside + sum(each.nodes for each in self.parallel)


def in_series(first: Component, node: int, last: Component) -> Component:
    """Return two components with a node between."""
    parts = [first.series or [first], [node], last.series or [last]]
    return Component(series=[each for part in parts for each in part])


def in_parallel(one: Component, other: Component) -> Component:
    """Return two components side by side."""
    return Component(parallel=[*(one.parallel or [one]), *(other.parallel or [other])])


@dataclass(eq=False)
class EdgeModel:
    """Edges (before, after) with components, of operations 0..N-1, the source N and the sink N + 1.

    `shared`: storages whose last user depends on the order; here they have an edge of their bytes to each user that may
    be the last, so that an order's memory is no longer a sum of edges. `work_N`: as in the graph, with the storages
    that nobody uses.
    """

    edges: dict[Edge, Component]
    operations: int
    shared: list[int]
    work_N: np.ndarray


def reach_of(edge_X2: np.ndarray, operations: int) -> np.ndarray:
    """Return reach_NN: whether one operation leads to another by edges, none to itself."""
    reach_NN = np.zeros((operations, operations), bool)
    for before, after in edge_X2[np.argsort(-edge_X2[:, 0], kind="stable")].tolist():
        reach_NN[before] |= reach_NN[after]
        reach_NN[before, after] = True
    return reach_NN


def edge_model(graph: TrainingGraph, is_reduced: bool = False) -> EdgeModel:
    """Return the edges of a graph; `is_reduced`: those without bytes that others imply are left out."""
    source, sink, edge_X2 = graph.N, graph.N + 1, all_edges(graph)
    reach_NN = reach_of(edge_X2, graph.N)
    model = EdgeModel({}, graph.N, [], graph.work_N.copy())
    for storage in range(graph.S):
        add_storage(model, graph, storage, reach_NN)
    for before, after in edge_X2.tolist():
        is_implied = is_reduced and (reach_NN[before] & reach_NN[:, after]).any()
        if (before, after) not in model.edges and not is_implied:
            model.edges[before, after] = Component()
    has_before, has_after = {after for _, after in model.edges}, {before for before, _ in model.edges}
    for operation in range(graph.N):
        if operation not in has_before:
            model.edges[source, operation] = Component()
        if operation not in has_after:
            model.edges[operation, sink] = Component()
    return model


def add_storage(model: EdgeModel, graph: TrainingGraph, storage: int, reach_NN: np.ndarray) -> None:
    """Add the edges of a storage: one, to its last user, or one to each that may be the last."""
    size, begin = int(graph.bytes_S[storage]), int(graph.producer_S[storage])
    users = graph.users(storage)
    last = [int(user) for user in users if not reach_NN[user, users].any()]
    first = [int(user) for user in users if not reach_NN[users, user].any()]
    if graph.kept_S[storage]:
        last = [graph.N + 1]
    if begin < 0:
        begin = graph.N
    elif not last:
        model.work_N[begin] += size
    if len(last) > 1 or (begin == graph.N and last == [graph.N + 1] and first):
        model.shared.append(storage)
    for end in last:
        own = Component(size)
        model.edges[begin, end] = in_parallel(model.edges[begin, end], own) if (begin, end) in model.edges else own


def reduced(model: EdgeModel) -> dict[Edge, Component]:
    """Return the edges that are left when all that is in series or parallel is joined: one if it is series-parallel."""
    after: dict[int, dict[int, Component]] = {node: {} for node in range(model.operations + 2)}
    before: dict[int, set[int]] = {node: set() for node in after}
    for (begin, end), component in model.edges.items():
        after[begin][end] = component
        before[end].add(begin)
    waiting = list(range(model.operations))
    while waiting:
        node = waiting.pop()
        if len(before[node]) != 1 or len(after[node]) != 1:
            continue
        begin, end = next(iter(before[node])), next(iter(after[node]))
        joined = in_series(after[begin].pop(node), node, after[node].pop(end))
        before[node].clear()
        before[end].discard(node)
        after[begin][end] = in_parallel(after[begin][end], joined) if end in after[begin] else joined
        before[end].add(begin)
        waiting += [each for each in (begin, end) if each < model.operations]
    return {(begin, end): each for begin, ends in after.items() for end, each in ends.items()}


def bridge_in(core: dict[Edge, Component], operations: int) -> tuple[int, int, int, int] | None:
    """Return (a, b, c, d) of a Wheatstone bridge in what reduces no further, source N and sink N + 1; None without one.

    An edge b to c that is the only way between them is its middle if neither end must be passed on the way to (or from)
    the other: then the last node that both must come through is a, the first that both must go on to is d.
    """
    above, below = must_pass(core, operations, operations), must_pass(core, operations, operations + 1)
    reach = reach_of_core(core)
    for b, c in core:
        if b >= operations or c >= operations or any(end in reach[b] and c in reach[end] for end in reach[b]):
            continue
        if b in above[c] or c in below[b]:
            continue
        common_above, common_below = above[b] & above[c], below[b] & below[c]
        return (
            max(common_above, key=lambda node: len(above[node])), b, c,
            max(common_below, key=lambda node: len(below[node])),
        )  # fmt: skip
    return None


def reach_of_core(core: dict[Edge, Component]) -> dict[int, set[int]]:
    """Return the nodes that each leads to."""
    after: dict[int, set[int]] = {}
    for begin, end in core:
        after.setdefault(begin, set()).add(end)
    reach: dict[int, set[int]] = {}
    for node in in_order(core)[::-1]:
        reach[node] = set().union(*({end} | reach[end] for end in after.get(node, ())))
    return reach


def in_order(core: dict[Edge, Component]) -> list[int]:
    """Return the nodes of a core so that each comes behind those before it."""
    after, waits = {}, {}
    for begin, end in core:
        after.setdefault(begin, []).append(end)
        waits[end] = waits.get(end, 0) + 1
        waits.setdefault(begin, 0)
    found = [node for node, many in waits.items() if not many]
    for node in found:  # grows
        for end in after.get(node, ()):
            waits[end] -= 1
            if not waits[end]:
                found.append(end)
    return found


def must_pass(core: dict[Edge, Component], operations: int, root: int) -> dict[int, set[int]]:
    """Return the nodes that lie on every way between the root, source or sink, and each node, itself included."""
    is_source = root == operations
    neighbours: dict[int, list[int]] = {}
    for begin, end in core:
        neighbours.setdefault(end if is_source else begin, []).append(begin if is_source else end)
    passed: dict[int, set[int]] = {}
    for node in in_order(core)[:: 1 if is_source else -1]:
        others = [passed[each] for each in neighbours.get(node, ())]
        passed[node] = {node} | (set.intersection(*others) if others else set())
    return passed
