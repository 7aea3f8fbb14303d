"""Charts of expert memory: what slots and policies cost, why time is lost, and how often an expert is absent."""

from collections.abc import Iterator

import pandas as pd

from moe_replay.analysis.results.misses_result import OPTIMA, of_all_layers
from moe_replay.analysis.results.result import Result, meaning
from moe_replay.figures.charts.chart import (
    DECADES,
    REFERENCE,
    Bars,
    Chart,
    Drawing,
    Series,
    groups,
    is_wide,
    more_lines,
    named,
    numeric,
    parted,
    said,
    shown,
)

RUN, RESIDENT, BOUND = "run", "resident", "bound"  # worlds
METRICS = {
    "tokens_per_s": ("Tokens per second", "tokens/s (higher is better)"),
    "time_ms": ("Time per pass", "ms (lower is better)"),
    "hit_ratio": ("Hits", "share of accesses found in a slot (higher is better)"),
}
CAUSES = {
    "compulsory_ms": "first use", "capacity_ms": "too few slots", "policy_ms": "policy", "bandwidth_ms": "link",
    "prefetching_ms": "prefetching", "late_prefetch_ms": "late prefetch",
}  # fmt: skip


def memory_charts(result: Result) -> list[Drawing]:
    """Return the charts of a memory study: time, hits, and the causes of lost time."""
    table, labels = result.table, {name: meaning(name)[0] for name in (*result.axes, "slots", "cache")}
    others = [name for name in dict.fromkeys((*result.axes, "cache")) if name != "slots"]
    drawn: list[Drawing] = []
    for metric in METRICS:
        if metric in table and table.loc[table["world"] == RUN, metric].notna().any():
            drawn += against_slots(table, metric, others, labels)
    return [*drawn, *lost(table, (*others, "slots"), labels)]


def against_slots(table: pd.DataFrame, metric: str, others: list[str], labels: dict[str, str]) -> Iterator[Chart]:
    """Yield a metric against slots per layer, a line per policy, beside all experts resident and the optimum."""
    word, unit = METRICS[metric]
    if metric == "time_ms":
        word = f"Time ({table['lost_in'].iloc[0]})"
    runs, whole = table[table["world"] == RUN], table[table["world"] == RESIDENT]
    by_number = numeric(runs["slots"]).notna().all()
    categories = [] if by_number else list(dict.fromkeys(map(shown, runs["slots"])))
    ends = [min(numeric(runs["slots"])), max(numeric(runs["slots"]))] if by_number else [categories[0], categories[-1]]
    levels = [
        Series("all experts resident", ends, [value] * 2, form=REFERENCE)
        for value in dict.fromkeys(whole[metric]) if value == value and metric != "hit_ratio"
    ]  # fmt: skip
    bounded = named(groups(table[table["world"] == BOUND], others), others, labels)
    bounds = [
        Series(f"{BOUND}{': ' + name if name else ''}", *points(rows, metric, by_number), form=REFERENCE)
        for name, rows in bounded.items() if len(rows)
    ]  # fmt: skip
    found = parted(runs, others, labels)
    for place, lines in found.panels.items():
        series = [
            Series(name, *points(rows, metric, by_number), *intervals(rows, metric)) for name, rows in lines.items()
        ]
        one = levels if len(levels) < 2 else []  # several settings have several: those are in the table
        yield Chart(
            name=f"{metric}-slots{'-' + place if place else ''}", series=[*series, *bounds[:2], *one],
            title=f"{word} against slots per layer{': ' + place if place else ''}", x_label="slots per layer C",
            y_label=unit, categories=categories, y_log=is_wide(runs[metric], DECADES[1]),
            x_log=by_number and is_wide(numeric(runs["slots"]), DECADES[0]), note=more_lines(found.left),
        )  # fmt: skip


def points(rows: pd.DataFrame, metric: str, by_number: bool) -> tuple[list, list]:
    """Return x and y of rows by their slots."""
    slots = numeric(rows["slots"]).to_numpy() if by_number else rows["slots"].map(shown).to_numpy()
    ordered = rows.assign(_x=slots)
    ordered = ordered.sort_values("_x", kind="stable") if by_number else ordered
    return list(ordered["_x"]), list(ordered[metric])


def intervals(rows: pd.DataFrame, metric: str) -> tuple[list, list]:
    """Return the ends of the intervals of time, none of other metrics or of one replication."""
    if metric != "time_ms" or "time_half_ms" not in rows or rows["time_half_ms"].isna().any():
        return [], []
    ordered = rows.assign(_x=numeric(rows["slots"]).to_numpy()).sort_values("_x", kind="stable")
    return list(ordered["time_ms"] - ordered["time_half_ms"]), list(ordered["time_ms"] + ordered["time_half_ms"])


def lost(table: pd.DataFrame, axes: tuple[str, ...], labels: dict[str, str]) -> Iterator[Bars]:
    """Yield the lost time of every memory by its causes."""
    runs = table[table["world"] == RUN]
    causes = [name for name in CAUSES if name in runs and runs[name].notna().any() and (runs[name] != 0).any()]
    kept = runs[runs[causes].notna().all(axis=1)] if causes else runs.iloc[:0]
    if kept.empty:
        return
    names = [said(tuple(shown(row[name]) for name in axes), axes, labels) for row in kept.to_dict("records")]
    parts = {CAUSES[name]: list(kept[name]) for name in causes}
    yield Bars(
        "lost-time",
        "Why time is lost, beside all experts resident",
        f"lost, {kept['lost_in'].iloc[0]} (lower is better)",
        names,
        parts,
    )


def misses_charts(result: Result) -> list[Drawing]:
    """Return the miss ratio against slots, every policy beside the optimum, each mode by itself."""
    rows = of_all_layers(result.table)
    apart = [name for name in ("trace", "mode", "prefetcher") if name in rows and rows[name].nunique() > 1]
    drawn = []
    for place, each in named(groups(rows, apart), apart, {}).items():
        lines = groups(each, ["policy"])
        series = [
            Series(policy, *points(at, "miss_ratio", True), form=REFERENCE if policy in OPTIMA else "line")
            for (policy,), at in lines.items()
        ]
        drawn.append(Chart(
            f"miss_ratio{'-' + place if place else ''}", f"Misses against slots{': ' + place if place else ''}",
            "slots per layer C", "share of accesses that miss (lower is better)", series,
        ))  # fmt: skip
    return drawn
