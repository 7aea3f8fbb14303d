"""Plans, placements, placements over time and orders as results."""

import json
from pathlib import Path

import pandas as pd

from moe_replay.analysis.results.result import (
    ORDERS,
    PLACEMENTS,
    PLANS,
    REBALANCES,
    Result,
    counted,
    percent,
    plain,
    times,
)
from moe_replay.traces.command_line.outputs import json_in


def plans_result(table: pd.DataFrame, name: str, made: dict, about: dict) -> Result:
    """Return a table of `simulate plan` as a result; `about` is the file beside it."""
    best = table.loc[table["predicted_loss"].idxmin()] if table["predicted_loss"].notna().any() else None
    budgets = counted(table["memory_budget"].nunique(), "memory budget")
    said = [f"{counted(len(table), 'plan')} for {budgets}."]
    if best is not None:
        said.append(
            f"Least predicted loss: {plain(best['predicted_loss'])} by {best['search']} search, at "
            f"{plain(best['predicted_latency_ms'])} ms a pass and {plain(best['predicted_memory_bytes'] / 1e6)} MB."
        )
    errors = about.get("errors") or {}
    doubts = ["Plans are predictions of models that were fitted to a profile; execute a plan before you trust it."]
    if errors:
        doubts.append(
            f"Median error on configurations left out: loss {plain(errors.get('loss'))}, latency "
            f"{plain(errors.get('latency_ms'))} ms."
        )
    doubts += [f"Refused: {each}." for each in about.get("refused") or []]
    axes = ("memory_budget", "latency_budget", "search")
    return Result(PLANS, name, table, axes=axes, made=made, findings=tuple(said), doubts=tuple(doubts))


def placements_result(table: pd.DataFrame, name: str, made: dict, about: dict) -> Result:
    """Return a table of `simulate place` as a result."""
    best = table.loc[table["device_max_over_mean"].idxmin()]
    worst = table.loc[table["device_max_over_mean"].idxmax()]
    said = [
        f"Most even: {best['planner']} with {plain(best['redundant'])} redundant experts, its busiest device has "
        f"{times(best['device_max_over_mean'])} the mean load; least even: {worst['planner']} with "
        f"{plain(worst['redundant'])}, {times(worst['device_max_over_mean'])}."
    ]
    doubts = [f"{str(about['known']).capitalize()}."] if about.get("known") else []
    useless = int((table["useless_replicas"] > 0).sum())
    if useless:
        doubts.append(f"{counted(useless, 'placement')} with an expert twice on a device: useless replicas.")
    doubts.append("Balance is counted in selections; communication is not timed here.")
    axes = ("planner", "redundant", "split", "known")
    return Result(PLACEMENTS, name, table, axes=axes, made=made, findings=tuple(said), doubts=tuple(doubts))


def rebalances_result(table: pd.DataFrame, name: str, made: dict) -> Result:
    """Return a table of `simulate rebalance` as a result."""
    start = table[table["placement"] == "contiguous"]["device_max_over_mean"]
    moved = table[table["placement"] == "rebalanced"]
    said = []
    if len(moved):
        best = moved.loc[moved["device_max_over_mean"].idxmin()]
        line = (
            f"Best of the rules that plan again and again: {best['planner']}, interval {plain(best['plan_interval'])}, "
            f"threshold {plain(best['adopt_threshold'])}; its busiest device has {times(best['device_max_over_mean'])} "
            "the mean load"
        )
        said.append(f"{line}; contiguous: {times(start.iloc[0])}." if len(start) else f"{line}.")
    knowing = table.loc[table["known"] == "hindsight", "placement"].unique()
    doubts = []
    if len(knowing):
        doubts.append(f"{', '.join(knowing)}: placed knowing the loads that are scored (hindsight), to compare with.")
    axes = ("placement", "planner", "plan_interval", "adopt_threshold")
    return Result(REBALANCES, name, table, axes=axes, made=made, findings=tuple(said), doubts=tuple(doubts))


def orders_result(table: pd.DataFrame, name: str, made: dict) -> Result:
    """Return a table of `simulate order` as a result: a row per way of choosing the order."""
    found = table[table["order_peak_bytes"].notna()]
    said, doubts = [], []
    if len(found):
        best = found.loc[found["order_peak_bytes"].idxmin()]
        bound = found["order_bound_bytes"].max()
        said.append(
            f"Lowest peak: {plain(best['order_peak_bytes'] / 1e6)} MB by {best['order_policy']}; no order needs less "
            f"than {plain(bound / 1e6)} MB."
        )
        captured = found[found["order_policy"] == "captured"]["order_peak_bytes"]
        if len(captured):
            less = percent(1 - best["order_peak_bytes"] / captured.iloc[0])
            said.append(f"As captured: {plain(captured.iloc[0] / 1e6)} MB, so {less} are saved.")
        if best["order_peak_bytes"] > bound:
            gap = percent(best["order_peak_bytes"] / bound - 1)
            doubts.append(f"Not proved: a better order could save up to {gap} above the bound.")
    doubts.append("Bytes are counted above parameters, optimizer state and the batch.")
    return Result(ORDERS, name, table, axes=("order_policy",), made=made, findings=tuple(said), doubts=tuple(doubts))


def order_table(path: Path) -> pd.DataFrame | None:
    """Return the order in a JSON file of `simulate order` as a table of one row; None where it holds none."""
    found = json_in(path)
    if found.get("kind") != "order" or "order_peak_bytes" not in found:
        return None
    kept = ("graph", "order_policy", "order_peak_bytes", "order_bound_bytes", "proved", "found_by", "reorder_only")
    return pd.DataFrame([{name: found.get(name) for name in kept}])


def beside(path: Path) -> dict:
    """Return what the JSON file beside a table says, empty where there is none."""
    try:
        found = json.loads(path.with_suffix(".json").read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
