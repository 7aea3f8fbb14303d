"""Charts of plans, placements, placements over time and orders of training graphs."""

import pandas as pd

from moe_replay.analysis.results.result import Result
from moe_replay.figures.charts.chart import (
    MOST_SERIES,
    POINTS,
    Bars,
    Chart,
    Drawing,
    Series,
    groups,
    more_lines,
    named,
    shown,
)

MB = 1e6
EVEN = (1.0, "perfectly even")
BALANCE = "device max/mean load (1 is even, lower is better)"


def plans_charts(result: Result) -> list[Drawing]:
    """Return predicted loss against the memory budget, and the slots of every layer of the plans."""
    table = result.table
    by = [name for name in ("search", "latency_budget") if table[name].nunique() > 1]
    fine = table[table["predicted_loss"].notna()]
    lines = [
        Series(name, list(rows["memory_budget"] / MB), list(rows["predicted_loss"]),
               form=POINTS if len(rows) < 2 else "line")
        for name, rows in named(groups(fine.sort_values("memory_budget"), by), by, LABELS).items()
    ]  # fmt: skip
    drawn: list[Drawing] = [Chart("loss-memory", "Predicted loss against memory", "memory budget, MB",
                                  "predicted loss (lower is better)", lines[:MOST_SERIES],
                                  note=more_lines(max(0, len(lines) - MOST_SERIES)))]  # fmt: skip
    told = [name for name in ("memory_budget", "latency_budget", "search") if table[name].nunique() > 1]
    plans = {name: str(rows["slots"].iloc[0]) for name, rows in named(groups(fine, told), told, LABELS).items()}
    slots = [
        Series(name or "plan", list(range(len(text.split(".")))), [float(each) for each in text.split(".")])
        for name, text in plans.items() if all(each.isdecimal() for each in text.split("."))
    ]  # fmt: skip
    if slots:
        drawn.append(Chart("slots-layers", "Slots that each plan gives a layer", "MoE layer, in order", "slots",
                           slots[:MOST_SERIES], note=more_lines(max(0, len(slots) - MOST_SERIES))))  # fmt: skip
    return drawn


LABELS = {"memory_budget": "bytes", "latency_budget": "ms", "redundant": "redundant", "plan_interval": "every",
          "adopt_threshold": "threshold"}  # fmt: skip


def placements_charts(result: Result) -> list[Drawing]:
    """Return how even devices are under each placement, and where tokens travel."""
    table = result.table
    told = ("planner", "redundant", "split", *(name for name in ("known", "repaired") if table[name].nunique() > 1))
    names = [label(row, told) for row in table.to_dict("records")]
    drawn: list[Drawing] = [
        Bars("balance", "Load of the busiest device over the mean", BALANCE, names,
             {"device max/mean": list(table["device_max_over_mean"])}, EVEN)
    ]  # fmt: skip
    if table["device_copies"].notna().any():
        copies = {"to other devices": list(table["device_copies"])}
        drawn.append(
            Bars("traffic", "Copies of a token that travel", "copies per token (lower is better)", names, copies)
        )
    return drawn


def rebalances_charts(result: Result) -> list[Drawing]:
    """Return how even devices are under each rule, and what evenness costs in moved experts."""
    table = result.table
    again = table[table["placement"] == "rebalanced"]
    names = [
        label(
            row, ("planner", "plan_interval", "adopt_threshold") if row["placement"] == "rebalanced" else ("placement",)
        )
        for row in table.to_dict("records")
    ]
    drawn: list[Drawing] = [
        Bars("balance", "Load of the busiest device over the mean", BALANCE, names,
             {"device max/mean": list(table["device_max_over_mean"])}, EVEN)
    ]  # fmt: skip
    if len(again) > 1:
        lines = named(groups(again, ["planner", "adopt_threshold"]), ("planner", "adopt_threshold"), LABELS)
        series = [
            Series(name, list(rows["copies_per_layer"]), list(rows["device_max_over_mean"]))
            for name, rows in ((name, rows.sort_values("copies_per_layer")) for name, rows in lines.items())
        ]
        note = more_lines(max(0, len(series) - MOST_SERIES))
        drawn.append(Chart("balance-moves", "What evenness costs in moved experts", "experts moved per layer", BALANCE,
                           series[:MOST_SERIES], note=note))  # fmt: skip
    return drawn


def orders_charts(result: Result) -> list[Drawing]:
    """Return the peak of every order beside the bound that holds for all orders."""
    table = result.table[result.table["order_peak_bytes"].notna()]
    if table.empty:
        return []
    refused = result.table[result.table["order_peak_bytes"].isna()]
    note = f"Refused: {', '.join(map(str, refused['order_policy']))}." if len(refused) else ""
    peaks = {"peak": list(table["order_peak_bytes"] / MB)}
    bound = float(table["order_bound_bytes"].max() / MB)
    unit = "MB above parameters, optimizer state and batch (lower is better)"
    names = [str(name) for name in table["order_policy"]]
    return [Bars("peak", "Peak memory of every order", unit, names, peaks, (bound, "no order needs less"), note)]


def label(row: dict, names: tuple[str, ...]) -> str:
    """Return what a bar is called: numbers with what they are, texts as they are."""
    words = [
        f"{LABELS[name]} {shown(row[name])}" if name in LABELS else shown(row[name]) for name in names
        if not pd.isna(row.get(name)) and shown(row[name]) not in ("", "0", "False")
    ]  # fmt: skip
    return ", ".join(words)
