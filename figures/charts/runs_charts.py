"""Charts of runs and sweeps: throughput and latency against every swept axis, one against the other, shares of time."""

from collections.abc import Iterator, Sequence

import pandas as pd

from moe_replay.analysis.results.result import Result, meaning
from moe_replay.figures.charts.chart import (
    DECADES,
    REFERENCE,
    Bars,
    Chart,
    Drawing,
    Series,
    is_wide,
    more_lines,
    numeric,
    parted,
    said,
    shown,
)

METRICS = {
    "throughput_per_s": ("Throughput", "passes/s (higher is better)"),
    "latency_p50_ms": ("Median latency", "p50 latency, ms (lower is better)"),
    "latency_p95_ms": ("p95 latency", "p95 latency, ms (lower is better)"),
    "ttft_p95_ms": ("p95 of TTFT", "p95 of time to first token, ms (lower is better)"),
    "tpot_p95_ms": ("p95 of TPOT", "p95 of time per output token, ms (lower is better)"),
}
PERCENTILES = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
SHARES = {"dense_share": "dense blocks", "expert_share": "experts", "wire_share": "wire", "waiting_share": "waiting"}
# An axis of a sweep that is drawn before others; digests and seeds are none.
FIRST = ("queue_size", "max_step", "slots", "in_flight", "rate_per_s", "load", "k", "devices", "micro_batches")
# What an axis is called; a legend says the short word before a number.
AXES = {
    "queue_size": "queue size B", "max_step": "largest step S", "in_flight": "sequences in flight N",
    "rate_per_s": "arrivals, sequences/s", "load": "offered load", "slots": "slots per layer C",
    "k": "experts per token k", "micro_batches": "micro-batches M", "timeout_ns": "time-out, ns",
}  # fmt: skip
SHORT = {"rate_per_s": "rate/s", "in_flight": "N"}
MEASURED = ("ok", "short")
MOST_AXES = 3
HOLLOW = "Hollow: of a whole run, too short for a window."
CROSSED = "Crosses on the frame: nothing was measured there"


def runs_charts(result: Result) -> list[Drawing]:
    """Return the charts of a table of runs; those of times to tokens where the table has them."""
    metrics = [name for name in METRICS if name in result.table and result.table[name].notna().any()]
    table, labels = result.table, {name: SHORT.get(name, meaning(name)[0]) for name in result.axes}
    swept = swept_axes(table, result.axes)
    drawn: list[Drawing] = []
    for axis in swept[:MOST_AXES]:
        others = [name for name in result.axes if name != axis]
        for metric in metrics:
            drawn += against(table, axis, metric, others, labels)
    if swept:
        drawn += trade_off(table, swept[0], [name for name in result.axes if name != swept[0]], labels)
    elif len(table) > 1:
        drawn += [by_setting(table, metric, result.axes, labels) for metric in metrics]
    else:
        drawn += percentiles(table)
    return [*drawn, *shares(table, result.axes, labels)]


def swept_axes(table: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """Return the axes with several numbers, the preferred first, then those with most values."""
    found = [name for name in axes if not name.endswith("_digest") and numeric(table[name]).nunique() > 1]
    places = {name: place for place, name in enumerate(FIRST)}
    return sorted(found, key=lambda name: (places.get(name, len(places)), -numeric(table[name]).nunique()))


def against(
    table: pd.DataFrame, axis: str, metric: str, others: Sequence[str], labels: dict[str, str]
) -> Iterator[Chart]:
    """Yield the charts of a metric against an axis: one, or several where there are many lines."""
    word, unit = METRICS[metric]
    found = parted(table, others, labels)
    values = [float(each) for each in table[metric] if each == each]
    for place, lines in found.panels.items():
        series = [made for name, rows in lines.items() for made in line(name, rows, axis, metric, table)]
        yield Chart(
            name=f"{metric}-{axis}{'-' + place if place else ''}", series=series, y_label=unit,
            x_label=AXES.get(axis, labels[axis]),
            title=f"{word} against {AXES.get(axis, labels[axis]).partition(',')[0]}{': ' + place if place else ''}",
            x_log=is_wide(numeric(table[axis]), DECADES[0]), y_log=is_wide(values, DECADES[1]),
            note=notes(series, found.left),
        )  # fmt: skip


def line(name: str, rows: pd.DataFrame, axis: str, metric: str, table: pd.DataFrame) -> Iterator[Series]:
    """Yield a line over an axis; rows without a number there (lockstep has no B) are a level across."""
    x = numeric(rows[axis])
    ordered = rows.assign(_x=x.to_numpy()).sort_values("_x", kind="stable")
    placed, level = ordered[ordered["_x"].notna()], ordered[ordered["_x"].isna()]
    if len(placed):
        fine = placed[placed["status"].isin(MEASURED) & placed[metric].notna()]
        without = placed.drop(index=fine.index)
        yield Series(
            name, list(fine["_x"]), list(fine[metric]), *ends(fine, metric),
            hollow=list(fine["status"] == "short"),
            crossed=[(row["_x"], row["status"]) for row in without.to_dict("records")],
        )  # fmt: skip
    across = numeric(table[axis])
    for row in level[level["status"].isin(MEASURED) & level[metric].notna()].to_dict("records"):
        where = name or shown(row.get("scheduler")) or f"without {axis}"
        yield Series(where, [across.min(), across.max()], [row[metric]] * 2, form=REFERENCE)


def ends(rows: pd.DataFrame, metric: str) -> tuple[list[float], list[float]]:
    """Return the ends of intervals, none where a table has none."""
    if f"{metric}_low" not in rows or rows[f"{metric}_low"].isna().all():
        return [], []
    return list(rows[f"{metric}_low"]), list(rows[f"{metric}_high"])


def notes(series: Sequence[Series], left: int) -> str:
    """Return what to say below a chart."""
    whys = sorted({why for each in series for _, why in each.crossed})
    words = [f"{CROSSED} ({', '.join(whys)})." if whys else "", more_lines(left)]
    words.append(HOLLOW if any(any(each.hollow) for each in series) else "")
    words.append("Bars: 95 % intervals." if any(len(each.low) for each in series) else "")
    return " ".join(filter(None, words))


def trade_off(table: pd.DataFrame, axis: str, others: Sequence[str], labels: dict[str, str]) -> Iterator[Chart]:
    """Yield throughput against p95 latency, the axis along each line."""
    rows = table[table["status"].isin(MEASURED) & table["latency_p95_ms"].notna() & table["throughput_per_s"].notna()]
    if len(rows) < 2:
        return
    found = parted(rows, others, labels)
    for place, lines in found.panels.items():
        series = []
        for name, each in lines.items():
            ordered = each.assign(_x=numeric(each[axis]).to_numpy()).sort_values("_x", kind="stable")
            x, y = list(ordered["throughput_per_s"]), list(ordered["latency_p95_ms"])
            series.append(Series(name, x, y, *ends(ordered, "latency_p95_ms")))
        yield Chart(
            name=f"trade-off{'-' + place if place else ''}", series=series, x_label=METRICS["throughput_per_s"][1],
            title=f"Latency against throughput, {labels[axis]} along each line{': ' + place if place else ''}",
            y_label=METRICS["latency_p95_ms"][1], y_log=is_wide(rows["latency_p95_ms"], DECADES[1]),
            note=more_lines(found.left),
        )  # fmt: skip


def by_setting(table: pd.DataFrame, metric: str, axes: Sequence[str], labels: dict[str, str]) -> Chart:
    """Return a metric of every row, where settings differ in no number."""
    word, unit = METRICS[metric]
    names = [said(tuple(shown(row[name]) for name in axes), axes, labels) for row in table.to_dict("records")]
    fine = (table["status"].isin(MEASURED) & table[metric].notna()).to_numpy()
    rows = table[fine]
    measured = [name for name, ok in zip(names, fine, strict=True) if ok]
    crossed = [(name, why) for name, why, ok in zip(names, table["status"], fine, strict=True) if not ok]
    hollow = list(rows["status"] == "short")
    series = Series(word, measured, list(rows[metric]), *ends(rows, metric), "points", hollow, crossed)
    return Chart(metric, f"{word} of every setting", "", unit, [series], categories=names, note=notes([series], 0))


def percentiles(table: pd.DataFrame) -> Iterator[Chart]:
    """Yield the latency percentiles of a single run."""
    row = table.iloc[0]
    names = [name for name in PERCENTILES if name in row and row[name] == row[name]]
    if row["status"] not in MEASURED or not names:
        return
    words = [name.split("_")[1] for name in names]
    found = [row.get(f"{name}_low") for name in names], [row.get(f"{name}_high") for name in names]
    low, high = found if all(each is not None and each == each for each in found[0]) else ([], [])
    series = Series("latency", words, [row[name] for name in names], low, high, "points")
    note = f"{shown(row['throughput_per_s'])} passes/s."
    yield Chart("latency", "Latency of the one run", "percentile of passes", "ms (lower is better)", [series], words,
                note=note)  # fmt: skip


def shares(table: pd.DataFrame, axes: Sequence[str], labels: dict[str, str]) -> Iterator[Bars]:
    """Yield where the time of linked devices goes."""
    parts = [name for name in SHARES if name in table and table[name].notna().any()]
    if len(parts) < 2:
        return
    rows = table[table[parts].notna().all(axis=1)]
    names = [said(tuple(shown(row[name]) for name in axes), axes, labels) or "run" for row in rows.to_dict("records")]
    stacked = {SHARES[name]: list(rows[name]) for name in parts}
    yield Bars("time", "Where the devices' time goes", "share of time", names, stacked)
