"""Rows of orders: what each policy finds for a graph, or why it refuses it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from moe_replay.simulate.ordering.order_bounds import cut_bound
from moe_replay.simulate.ordering.order_names import ALL, POLICIES
from moe_replay.simulate.ordering.order_policies import ORDERS
from moe_replay.simulate.ordering.order_result import OrderResult
from moe_replay.simulate.ordering.touches import touches_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.training_graph import TrainingGraph


def order_rows(
    graph: TrainingGraph, policies: str, seconds: float, seed: int, begin: Callable[[str], None]
) -> tuple[list[dict], dict[str, OrderResult]]:
    """Return (a row per policy, the orders by policy); a bound holds for all, so each has the best of them.

    `policies`: names with commas, or `all`, of which those that cannot take the graph have a row that says why. Where
    such a one is asked for by name, InputError. `begin` is told the name of each as it begins.
    """
    names = list(POLICIES) if policies == ALL else [name.strip() for name in policies.split(",")]
    for name in names:
        ORDERS.check(name)
    rows, orders = [], {}
    for name in names:
        begin(name)
        begun, status = time.perf_counter(), ""
        try:
            orders[name] = ORDERS[name](graph, seconds, seed)
        except InputError as error:
            if policies != ALL:
                raise InputError(f"{graph.name}, {name}: {error}") from None
            status = str(error)
        rows.append({"order_policy": name, "refused": status, "seconds": time.perf_counter() - begun})
    bound = max([cut_bound(touches_of(graph)), *(found.lower_bound for found in orders.values())])
    orders = {name: replace(found, lower_bound=bound) for name, found in orders.items()}
    return [row | numbers_of(orders.get(row["order_policy"])) for row in rows], orders


def numbers_of(found: OrderResult | None) -> dict:
    """Return the columns of an order; empty ones where a policy refused the graph."""
    if found is None:
        return dict.fromkeys(("order_peak_bytes", "order_bound_bytes", "order_gap", "proved", "found_by"), "")
    return {
        "order_peak_bytes": found.peak, "order_bound_bytes": found.lower_bound, "order_gap": found.gap,
        "proved": found.proved, "found_by": found.by,
    }  # fmt: skip


def order_content(graph: TrainingGraph, found: OrderResult, policy: str, reorder_only: bool) -> dict:
    """Return what an order's file holds: whose it is, the order by numbers, and its certificate."""
    return {
        "schema": 1, "kind": "order", "graph": graph.name, "digest": graph.digest, "order_policy": policy,
        "reorder_only": reorder_only, "order": found.order_N.tolist(), "order_peak_bytes": found.peak,
        "order_bound_bytes": found.lower_bound, "proved": found.proved, "found_by": found.by,
    }  # fmt: skip
