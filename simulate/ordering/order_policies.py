"""The order policies by name, and the one call that runs them."""

from __future__ import annotations

from moe_replay.simulate.ordering import captured, lpmf
from moe_replay.simulate.ordering.order_result import OrderResult, Policy
from moe_replay.simulate.policies.rule_names import Rules
from moe_replay.traces.training_graphs.training_graph import TrainingGraph

ORDERS: Rules[Policy] = Rules("order", "order policy", None, {
    "captured": captured.order, "lpmf": lpmf.order,
}, arguments=("graph", "seconds", "seed"))  # fmt: skip


def order(graph: TrainingGraph, policy: str = "captured", seconds: float = 60, seed: int = 0) -> OrderResult:
    """Return the order that a named policy finds within about `seconds`; InputError for an unknown name."""
    return ORDERS[policy](graph, seconds, seed)
