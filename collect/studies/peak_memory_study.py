"""Orders of captured training iterations: what each needs, predicted, counted and allocated, beside eager."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from moe_replay.collect.graphs.captured_step import CapturedStep
from moe_replay.simulate.ordering.optimizer_last import optimizer_last
from moe_replay.traces.training_graphs.training_graph import PHASES, TrainingGraph

EAGER, BEST, CAPTURED, WINDOWS = "eager", "best", "captured", "windows"
# What is compared: what ran, chance, three greedy orders as inductor has them, and the search.
ORDERS = (CAPTURED, "random", "lpmf", "bfs", "dfs", BEST)


@dataclass(frozen=True)
class OrderRow:
    """One order of one graph; bytes are peaks above parameters, optimizer state and batch.

    `interleaved`: whether the optimizer may run before the backward pass is over, which it does not in eager and in the
    captured order. `predicted_bytes`: by the graph; `counted_bytes`: of the storages held; `allocated_bytes`: by the
    device's allocator, alone for eager, which has no graph. `lower_bound_bytes`: no order needs less. `by`: which
    search found it. `same_bits`: parameters, buffers, optimizer state and loss are eager's.
    """

    step_order: str
    interleaved: bool
    allocated_bytes: int
    predicted_bytes: int | None = None
    counted_bytes: int | None = None
    lower_bound_bytes: int | None = None
    by: str = ""
    search_s: float | None = None
    same_bits: bool = True


def study_step(
    captured: CapturedStep, seconds: float, seed: int, on_order: Callable[[str], object] = lambda name: None
) -> list[dict]:
    """Return the rows of one iteration: eager, every order of ORDERS, and the best with the optimizer left at the end.

    `on_order` is told what is searched next.
    """
    rows = [OrderRow(EAGER, False, captured.eager.peak)]
    for name in ORDERS:
        on_order(name)
        rows.append(order_row(captured, name, captured.graph, seconds, seed))
    if PHASES.index("optimizer") in captured.graph.phase_N:
        on_order(f"{BEST}, reorder only")
        row = order_row(captured, BEST, optimizer_last(captured.graph), seconds, seed)
        rows.append(replace(row, interleaved=False))
    return [asdict(row) for row in rows]


def order_row(captured: CapturedStep, name: str, graph: TrainingGraph, seconds: float, seed: int) -> OrderRow:
    """Return the row of the order that a policy finds for a graph, run and measured."""
    from moe_replay.simulate.ordering.order_policies import order  # late: with it numba, which a GPU's Python may lack

    started = time.perf_counter()
    found = order(graph, name, seconds, seed)
    if name == BEST and not found.proved:  # on a busy machine its time may be over before it comes to windows
        other = order(graph, WINDOWS, seconds, seed)
        bound = max(found.lower_bound, other.lower_bound)
        found = replace(min(found, other, key=lambda each: each.peak), lower_bound=bound)
    took = time.perf_counter() - started
    measured = captured.measure(found.order_N)
    return OrderRow(
        name, name != CAPTURED, measured["allocated"], measured["predicted"], measured["counted"],
        found.lower_bound or None, found.by, round(took, 3), measured["differs"] is None,
    )  # fmt: skip
