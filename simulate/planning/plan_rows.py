"""Rows of plans: what every search found for every budget, and the budgets that none meets."""

from __future__ import annotations

from moe_replay.simulate.planning.fitted_models import Models
from moe_replay.simulate.planning.measurements import text_of
from moe_replay.simulate.planning.search import Budget, Plan, search_all
from moe_replay.traces.errors import InputError


def plan_rows(models: Models, layers: int, budgets: list[Budget]) -> tuple[list[dict], list[str]]:
    """Return (rows, refused): a row per budget and search, and a line for every budget that no plan meets."""
    rows, refused = [], []
    for budget in budgets:
        try:
            rows += [plan_row(budget, plan) for plan in search_all(models, layers, budget)]
        except InputError as error:
            refused.append(str(error))
    return rows, refused


def plan_row(budget: Budget, plan: Plan) -> dict:
    """Return the row of a plan."""
    return {
        "memory_budget": budget.memory_bytes, "latency_budget": budget.latency_ms, "search": plan.search,
        "slots": text_of(plan.slots_L), "period": plan.period, "predicted_loss": plan.loss,
        "predicted_latency_ms": plan.latency_ms, "predicted_memory_bytes": plan.memory_bytes, "seconds": plan.seconds,
    }  # fmt: skip
