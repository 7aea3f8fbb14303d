"""What fusing two operations would do to the peak of the best order: raise it, lower it, or nothing.

A fused pair is one operation: it needs what both need, and a storage that only the pair touches is gone. Candidates are
first scored by the change of the cut bound, then ordered again. Where the bound with a pair is above the best peak
without it, the pair is vetoed without a search: no order can make up for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from moe_replay.simulate.ordering import best
from moe_replay.simulate.ordering.decomposition.edge_model import reach_of
from moe_replay.simulate.ordering.order_bounds import cut_bound
from moe_replay.simulate.ordering.order_result import OrderResult, all_edges
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.traces.training_graphs.training_graph import FROM_THE_START, TrainingGraph, training_graph


def fusible_pairs(graph: TrainingGraph) -> list[tuple[int, int]]:
    """Return pairs (producer, user) that can be one operation: no third has to run between them."""
    edge_X2 = all_edges(graph)
    reach_NN = reach_of(edge_X2, graph.N)
    made = {
        (int(graph.producer_S[s]), int(user))
        for s in range(graph.S) for user in graph.users(s) if graph.producer_S[s] >= 0
    }  # fmt: skip
    return sorted(pair for pair in made if not (reach_NN[pair[0]] & reach_NN[:, pair[1]]).any())


def fused(graph: TrainingGraph, first: int, second: int) -> TrainingGraph:
    """Return the graph with a pair of operations as one, which stands where both can: numbers are those of an order."""
    pair = (first, second)
    order = pair_together(graph, first, second)
    number = {operation: at for at, operation in enumerate(order)}
    number[second] = number[first]
    rows = [(graph.names_N[v], graph.kinds_N[v], "forward", int(graph.work_N[v])) for v in order]
    together = int(graph.work_N[first] + graph.work_N[second])
    rows[number[first]] = (f"{graph.names_N[first]}+{graph.names_N[second]}", "fused", "forward", together)
    storages = []
    for s in range(graph.S):
        producer, users = int(graph.producer_S[s]), graph.users(s).tolist()
        if producer in pair and users and {*users} <= {*pair} and not graph.kept_S[s]:
            continue  # it never leaves the fused operation
        begin = number[producer] if producer >= 0 else FROM_THE_START
        ends = sorted({number[user] for user in users} - {begin})
        storages.append((int(graph.bytes_S[s]), begin, bool(graph.kept_S[s]), ends))
    edges = {(number[a], number[b]) for a, b in all_edges(graph).tolist()}
    return training_graph(graph.name, rows, storages, sorted(edge for edge in edges if edge[0] != edge[1]))


def pair_together(graph: TrainingGraph, first: int, second: int) -> list[int]:
    """Return an order of all but `second`, which runs together with `first`: after all that either waits for."""
    edge_X2 = all_edges(graph)
    reach_NN = reach_of(edge_X2, graph.N)
    needed_N = reach_NN[:, first] | reach_NN[:, second]
    needed_N[[first, second]] = False
    others = np.ones(graph.N, bool)
    others[[first, second]] = False
    return [*np.flatnonzero(needed_N).tolist(), first, *np.flatnonzero(others & ~needed_N).tolist()]


def fusion_rows(
    graph: TrainingGraph, found: OrderResult, most: int, seconds: float, told: Callable[[], None] = lambda: None
) -> list[dict]:
    """Return what each of up to `most` pairs does, spread evenly over the graph; `seconds` in all, about.

    `found`: the best order without a fusion. `bound_change` and `peak_change` are shares of its bound and peak; a pair
    is vetoed where it raises the peak for certain. Pairs whose bound changes most come first.
    `told` is called for each.
    """
    bound, pairs = cut_bound(touches_of(graph)), fusible_pairs(graph)
    picked = [pairs[int(at)] for at in np.linspace(0, len(pairs) - 1, min(most, len(pairs)))] if pairs else []
    graphs = {pair: fused(graph, *pair) for pair in picked}
    bounds = {pair: cut_bound(touches_of(each)) for pair, each in graphs.items()}
    until, rows = time.monotonic() + seconds, []
    for pair in sorted(picked, key=lambda each: -abs(bounds[each] - bound)):
        is_vetoed = bounds[pair] > found.peak
        left = max(0.05, (until - time.monotonic()) / (len(picked) - len(rows)))
        peak = bounds[pair] if is_vetoed else best.order(graphs[pair], left).peak
        rows.append({
            "first": graph.names_N[pair[0]], "second": graph.names_N[pair[1]],
            "bound_change": bounds[pair] / max(1, bound) - 1, "peak_change": peak / max(1, found.peak) - 1,
            "effect": "raised" if peak > found.peak else "lowered" if peak < found.peak else "unchanged",
            "vetoed": is_vetoed,
        })  # fmt: skip
        told()
    return rows
