"""The order policies by name, and the one call that runs them."""

from __future__ import annotations

from moe_replay.simulate.ordering import (
    best,
    breadth_first,
    captured,
    cuts,
    depth_first,
    ilp,
    lpmf,
    random_orders,
    windows,
)
from moe_replay.simulate.ordering.decomposition import hybrid, liu, series_parallel
from moe_replay.simulate.ordering.order_names import POLICIES
from moe_replay.simulate.ordering.order_result import OrderResult, Policy
from moe_replay.simulate.policies.rule_names import Rules
from moe_replay.traces.training_graphs.training_graph import TrainingGraph

MODULES = {
    "captured": captured, "random": random_orders, "lpmf": lpmf, "bfs": breadth_first, "dfs": depth_first, "liu": liu,
    "series-parallel": series_parallel, "hybrid": hybrid, "cuts": cuts, "windows": windows, "ilp": ilp, "best": best,
}  # fmt: skip
ORDERS: Rules[Policy] = Rules(
    "order", "order policy", None, {name: MODULES[name].order for name in POLICIES},
    arguments=("graph", "seconds", "seed"),
)  # fmt: skip


def order(graph: TrainingGraph, policy: str = "best", seconds: float = 60, seed: int = 0) -> OrderResult:
    """Return the order that a named policy finds within about `seconds`; InputError for an unknown name."""
    return ORDERS[policy](graph, seconds, seed)
