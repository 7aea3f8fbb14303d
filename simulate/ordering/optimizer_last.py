"""A graph in which the optimizer waits for the backward pass: what may be reordered where nothing is interleaved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe_replay.simulate.ordering.order_result import all_edges
from moe_replay.traces.training_graphs.training_graph import PHASES, TrainingGraph


def optimizer_last(graph: TrainingGraph) -> TrainingGraph:
    """Return the graph with edges from all other operations to the optimizer's, those left out that follow.

    Without an optimizer it is the graph itself. Orders of the result are orders of the graph.
    """
    is_optimizer_N = graph.phase_N == PHASES.index("optimizer")
    before_X, after_X = all_edges(graph).T
    leads_on_N, waits_N = np.zeros((2, graph.N), bool)
    leads_on_N[before_X[~is_optimizer_N[after_X]]] = True
    waits_N[after_X[is_optimizer_N[before_X]]] = True
    last, first = np.flatnonzero(~is_optimizer_N & ~leads_on_N), np.flatnonzero(is_optimizer_N & ~waits_N)
    added = [[before, after] for before in last.tolist() for after in first.tolist()]
    edge_E2 = np.unique(np.concatenate([graph.edge_E2, np.array(added, np.int32).reshape(-1, 2)]), axis=0)
    return replace(graph, edge_E2=edge_E2)
