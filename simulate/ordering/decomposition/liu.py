"""Liu's order (1987): optimal for trees whose every storage has one user, and the merge of chains that it rests on.

A chain of operations is divided into hills and valleys: its highest step, the last lowest state after that, and so on.
Chains that run side by side are merged by hill less valley, the largest first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.ordering.decomposition.edge_model import EdgeModel, edge_model
from moe_replay.simulate.ordering.order_result import OrderResult, peak_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.training_graph import TrainingGraph


@dataclass(frozen=True)
class Step:
    """An operation of a chain: bytes while it runs, and after it, above what was there before the chain began."""

    operation: int
    high: int
    left: int


def order(graph: TrainingGraph, seconds: float = 0, seed: int = 0) -> OrderResult:
    """Return the optimal order of a forest in which every operation has at most one user of what it makes.

    InputError where an operation has several successors, or a storage several users of which any may be the last. A
    forest that branches the other way is ordered backwards.
    """
    model = edge_model(graph)
    inner = [edge for edge in model.edges if max(edge) < graph.N]
    begins, ends = [begin for begin, _ in inner], [end for _, end in inner]
    branching = next((v for v in begins if begins.count(v) > 1), None)
    joining = next((v for v in ends if ends.count(v) > 1), None)
    if branching is not None and joining is not None:
        raise InputError(
            f"no tree: {graph.names_N[branching]} has several successors and {graph.names_N[joining]} several "
            "predecessors; allowed: one of both"
        )
    if model.shared:
        raise InputError(f"storage {model.shared[0]} has several users; allowed for liu: one, or one that is the last")
    order_N = tree_order(model, is_backwards=branching is not None)
    peak = peak_of(graph, order_N)
    return OrderResult(np.array(order_N, np.int32), peak, peak, "liu; liu")


def tree_order(model: EdgeModel, is_backwards: bool) -> list[int]:
    """Return the order of a forest: of every operation the merged orders of its subtrees, then itself."""
    source, sink = model.operations, model.operations + 1
    in_N, out_N = bytes_of(model)
    if is_backwards:
        in_N, out_N = out_N, in_N
    below: dict[int, list[int]] = {}
    for begin, end in model.edges:
        child, parent = (end, begin) if is_backwards else (begin, end)
        if child < source:
            below.setdefault(min(parent, sink) if parent < source else sink, []).append(child)
    chains: dict[int, list[Step]] = {}
    stack = [(sink, False)]
    while stack:
        node, is_left = stack.pop()
        if not is_left:
            stack.append((node, True))
            stack += [(child, False) for child in below.get(node, ())]
            continue
        merged = merge([chains.pop(child) for child in below.get(node, ())])
        operations = [step.operation for step in merged] + ([node] if node < source else [])
        chains[node] = steps_along(operations, 0, in_N, out_N, model.work_N)
    found = [step.operation for step in chains[sink]]
    return found[::-1] if is_backwards else found


def bytes_of(model: EdgeModel) -> tuple[np.ndarray, np.ndarray]:
    """Return (in_N, out_N): bytes of the edges into and out of each node, source and sink last."""
    in_N, out_N = np.zeros(model.operations + 2, np.int64), np.zeros(model.operations + 2, np.int64)
    for (begin, end), component in model.edges.items():
        size = component.bytes + sum(each.bytes for each in component.parallel)
        out_N[begin] += size
        in_N[end] += size
    return in_N, out_N


def steps_along(
    operations: list[int], start: int, in_N: np.ndarray, out_N: np.ndarray, work_N: np.ndarray
) -> list[Step]:
    """Return the steps of a chain that begins with `start` bytes."""
    steps, alive = [], start
    for operation in operations:
        high = alive + int(out_N[operation] + work_N[operation])
        alive += int(out_N[operation] - in_N[operation])
        steps.append(Step(operation, high, alive))
    return steps


def merge(chains: list[list[Step]]) -> list[Step]:
    """Return the steps of chains side by side in the order that needs least; levels stay those of each chain."""
    segments = [(valley - hill, i, at, steps) for i, chain in enumerate(chains)
                for at, (hill, valley, steps) in enumerate(hills_and_valleys(chain))]  # fmt: skip
    return [step for *_, steps in sorted(segments, key=lambda each: each[:3]) for step in steps]


def hills_and_valleys(chain: list[Step]) -> list[tuple[int, int, list[Step]]]:
    """Return (hill, valley, steps up to it) along a chain; hill less valley falls from one to the next."""
    found, begin = [], 0
    while begin < len(chain):
        rest = chain[begin:]
        hill = max(step.high for step in rest)
        top = max(i for i, step in enumerate(rest) if step.high == hill)
        valley = min(step.left for step in rest[top:])
        end = max(i for i in range(top, len(rest)) if rest[i].left == valley) + 1
        found.append((hill, valley, rest[:end]))
        begin += end
    return found
