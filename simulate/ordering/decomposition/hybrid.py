"""Series-parallel parts put into their own best order, and only what is left between them searched.

A part that reduces to one edge becomes a chain: its operations keep the order that is best for it alone, and are only
mixed with what is outside. That is exact where storages have one last user, and a restriction where they have several.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from moe_replay.simulate.ordering.cuts import NO_LIMIT, Effort, searched, splits
from moe_replay.simulate.ordering.deadline import until_after
from moe_replay.simulate.ordering.decomposition.edge_model import edge_model, reduced
from moe_replay.simulate.ordering.decomposition.series_parallel import Orders
from moe_replay.simulate.ordering.lpmf import least_peak_first
from moe_replay.simulate.ordering.order_bounds import cut_bound
from moe_replay.simulate.ordering.order_result import OrderResult, peak_of
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.traces.training_graphs.training_graph import TrainingGraph

STATES = 300_000


def order(graph: TrainingGraph, seconds: float = 60, seed: int = 0) -> OrderResult:
    """Return the best order that keeps the chains of the series-parallel parts, searched exactly, else by cuts."""
    until, touches = until_after(seconds), touches_of(graph)
    bound, chained = cut_bound(touches), touches.with_edges(chain_edges(graph))
    best_N, peak = least_peak_first(chained), NO_LIMIT
    exact_N, _ = searched(chained, bound, NO_LIMIT, STATES)
    for found_N in [exact_N] if exact_N is not None else splits(chained, bound, Effort(until)):
        if (found := peak_of(graph, found_N)) < peak:
            best_N, peak = found_N, found
        if peak == bound:
            break
    return OrderResult(np.asarray(best_N, np.int32), peak_of(graph, best_N), bound, "hybrid; cut")


def chain_edges(graph: TrainingGraph) -> np.ndarray:
    """Return edge_X2 between neighbours of every chain that a series-parallel part becomes."""
    model = edge_model(graph)
    orders = Orders(model)
    chains = [orders.of(component) for component in reduced(model).values()]
    pairs = [pair for chain in chains for pair in pairwise(chain)]
    return np.array(pairs, np.int64).reshape(-1, 2)
