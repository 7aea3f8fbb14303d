"""Charts of the tables behind the shipped figures, for pointing at: the figures themselves say more."""

import pandas as pd

from moe_replay.analysis.results.result import Result
from moe_replay.figures.charts.chart import (
    MOST_SERIES,
    POINTS,
    REFERENCE,
    Chart,
    Drawing,
    Series,
    groups,
    more_lines,
    named,
    numeric,
)
from moe_replay.figures.charts.further_tables import CURVES, FINE, curves
from moe_replay.figures.charts.memory_charts import misses_charts


def table_charts(result: Result) -> list[Drawing]:
    """Return the charts of a table by its figure; none for most."""
    name = result.name.rpartition("/")[2].removesuffix(".csv")
    if name in CURVES:
        return curves(result, CURVES[name])
    of = {
        "queue_size": queue_size, "accuracy_vs_k": accuracy, "load_vs_k": load, "fidelity": fidelity,
        "miss_ratio": misses, "locality_hits": hits,
    }.get(name)  # fmt: skip
    return [] if of is None else of(result)


def queue_size(result: Result) -> list[Drawing]:
    """Return throughput of the fullest closed loop and median latency at every load, against B, for each set."""
    drawn: list[Drawing] = []
    for (place,), table in groups(result.table[result.table["scheduler"] == "queues"], ["set"]).items():
        closed = table[table["arrivals"] == "closed"]
        fullest = closed[closed["in_flight"] == closed["in_flight"].max()]
        title = f"Throughput against B, {place}, N={fullest['in_flight'].max():g}"
        drawn += sources(fullest, "throughput_per_s", title, "passes/s (higher is better)")
        for (load,), each in groups(table[table["arrivals"] == "poisson"], ["load"]).items():
            drawn += sources(each, "latency_p50_ms", f"Median latency against B, {place}, load {load}",
                             "p50 latency, ms (lower is better)")  # fmt: skip
    return drawn


def sources(table: pd.DataFrame, metric: str, title: str, unit: str) -> list[Drawing]:
    """Return one chart over B with a line for each source; theory is a reference, unstable points are crossed."""
    series = []
    for (source,), rows in groups(table.sort_values("queue_size", kind="stable"), ["source"]).items():
        fine = rows[rows["status"].isin(FINE) & rows[metric].notna()]
        without = rows.drop(index=fine.index)
        known = f"{metric}_low" in fine and fine[f"{metric}_low"].notna().all()
        ends = (list(fine[f"{metric}_low"]), list(fine[f"{metric}_high"])) if known and len(fine) else ([], [])
        crossed = (
            [(row["queue_size"], row["status"]) for row in without.to_dict("records")] if source != "theory" else []
        )
        form = {"theory": REFERENCE, "executed": POINTS}.get(source, "line")
        series.append(Series(source, list(fine["queue_size"]), list(fine[metric]), *ends, form=form, crossed=crossed))
    if not any(len(each.x) for each in series):
        return []
    note = "Crosses on the frame: nothing was measured there." if any(each.crossed for each in series) else ""
    return [
        Chart(title, title, "queue size B", unit, series, x_log=True, y_log=metric != "throughput_per_s", note=note)
    ]


def accuracy(result: Result) -> list[Drawing]:
    """Return accuracy against k of every set and view."""
    rows = result.table[result.table["status"].isin(FINE)].sort_values("k", kind="stable")
    found = named(
        groups(rows, ["set", "view", "trained_k"]), ("set", "view", "trained_k"), {"trained_k": "trained at k"}
    )
    series = [
        Series(name, list(each["k"]), list(each["accuracy_percent"]), list(each["accuracy_percent_low"]),
               list(each["accuracy_percent_high"]))
        for name, each in found.items()
    ]  # fmt: skip
    return whole("Accuracy against the budget k", "experts per token k", "accuracy, % (higher is better)", series)


def load(result: Result) -> list[Drawing]:
    """Return the spread of load against k, all layers together, beside a uniform choice."""
    rows = result.table[(result.table["layer"].astype(str) == "all") & result.table["status"].isin(FINE)]
    series = []
    for (place,), each in groups(rows.sort_values("k", kind="stable"), ["set"]).items():
        series.append(Series(place, list(each["k"]), list(each["cv"])))
        series.append(Series(f"{place}: uniform choice", list(each["k"]), list(each["uniform_cv"]), form=REFERENCE))
    return whole("Spread of load over experts", "experts per token k", "coefficient of variation", series)


def fidelity(result: Result) -> list[Drawing]:
    """Return simulated against executed throughput of every run, beside equality."""
    rows = result.table[result.table["status"].isin(FINE) & result.table["executed_throughput"].notna()]
    series = [
        Series(place, list(each["executed_throughput"]), list(each["simulated_throughput"]), form=POINTS)
        for (place,), each in groups(rows, ["set"]).items()
    ]
    if not series:
        return []
    ends = [rows["executed_throughput"].min(), rows["executed_throughput"].max()]
    series.append(Series("equal", ends, ends, form=REFERENCE))
    axes = "executed, passes/s", "simulated, passes/s"
    return [Chart("fidelity", "Throughput: simulated against executed", *axes, series, x_log=True, y_log=True)]


def misses(result: Result) -> list[Drawing]:
    """Return the miss ratio against slots of every trace and mode."""
    table = result.table
    named_rows = table.assign(trace=table["set"].astype(str) + " " + table["trace"].astype(str))
    same = (table["set"] == table["trace"]).all()
    kept = table if same else named_rows
    return misses_charts(Result(result.kind, result.name, kept[kept["status"].isin(FINE)]))


def hits(result: Result) -> list[Drawing]:
    """Return LRU's hit ratio against slots of every trace, beside the same tokens in random order."""
    table = result.table
    drawn: list[Drawing] = []
    for (place, trace), rows in groups(table, ["set", "trace"]).items():
        title = f"LRU hits against slots, {trace if trace == place else f'{place} {trace}'}"
        series = [
            Series(order, list(numeric(each["slots"])), list(each["hit_ratio"]),
                   form="line" if order == "recorded" else REFERENCE)
            for (order,), each in groups(rows.sort_values("slots", kind="stable"), ["order"]).items()
        ]  # fmt: skip
        drawn.append(Chart(title, title, "slots per layer C", "share of selections (higher is better)", series))
    return drawn


def whole(title: str, x_label: str, y_label: str, series: list[Series]) -> list[Drawing]:
    """Return one chart of a few lines, none without any."""
    note = more_lines(max(0, len(series) - MOST_SERIES))
    return [Chart(title, title, x_label, y_label, series[:MOST_SERIES], note=note)] if series else []
