"""How close does the simulator come to what was executed?"""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.set_panels import legend_below
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "fidelity"
PANELS = {"throughput": "throughput (passes/s)", "latency_p50": "p50 latency (ms)", "latency_p95": "p95 latency (ms)"}
BAND = 0.10


def draw(tables: TableFiles) -> Figure:
    """Return the figure: above, executed across and simulated up; below, the signed error against queue size."""
    rows, summary = tables.rows(NAME), tables.rows(f"{NAME}_summary")
    figure, panels = plt.subplots(2, 3, figsize=(style.PAGE, 5.4), layout="constrained", height_ratios=(1.4, 1))
    compared = rows[rows["status"] == "ok"] if "status" in rows else rows
    looks = looks_of(compared) if "arrivals" in compared else {}
    for (metric, label), scatter, error in zip(PANELS.items(), *panels, strict=True):
        scatter.set_title(label.split(" (")[0])
        if f"simulated_{metric}" not in compared or compared[f"{metric}_error_percent"].isna().all():
            style.hole(scatter, tables.missing(NAME))
            error.axis("off")
            continue
        scatter_panel(scatter, compared, looks, metric, label)
        error_panel(error, compared, looks, metric)
        scatter.text(
            0.97,
            0.04,
            words(summary, metric),
            transform=scatter.transAxes,
            ha="right",
            va="bottom",
            fontsize=style.SMALL,
        )
    if tables.holes:
        panels[0][0].set_title(
            f"throughput ({len(tables.holes)} missing or failed, see the caption)", color=style.ALARM
        )
    legend_below(figure, panels[0][0], 3)
    style.headline(figure, errors(summary))
    return figure


def errors(summary: pd.DataFrame) -> str:
    """Return the claim: the median and the worst error of throughput over all runs."""
    if "throughput_median_percent" not in summary or summary.empty:
        return ""
    row = summary[(summary["set"] == "all") & (summary["arrivals"] == "all")].iloc[0]
    return (
        f"Simulated throughput is within {row['throughput_median_percent']:.1f} % of executed in half of "
        f"{row['runs']:.0f} runs, at worst {row['throughput_worst_percent']:.0f} % off; above 0 it is too high"
    )


def looks_of(rows: pd.DataFrame) -> dict[tuple, dict]:
    """Return a look per (set, scheduler, mode): colours tell sets apart, markers what ran."""
    named = rows[["set", "scheduler", "arrivals"]].drop_duplicates().itertuples(index=False, name=None)
    keys = sorted(named, key=lambda key: (key[0], key[1] != "queues", key[2]))
    sets, kinds = list(dict.fromkeys(key[0] for key in keys)), list(dict.fromkeys(key[1:] for key in keys))
    return {
        key: {
            "linestyle": "none", "markersize": 3, "markerfacecolor": "none", "markeredgewidth": 0.6, "alpha": 0.75,
            "marker": style.MARKERS[kinds.index(key[1:]) % len(style.MARKERS)],
            "markeredgecolor": style.COLOURS[sets.index(key[0]) % len(style.COLOURS)],
        }
        for key in keys
    }  # fmt: skip


def groups(rows: pd.DataFrame, looks: dict[tuple, dict]) -> Iterator[tuple[dict, str, pd.DataFrame]]:
    """Yield (look, label, rows) for every look."""
    for (name, scheduler, mode), look in looks.items():
        chosen = (rows["set"] == name) & (rows["scheduler"] == scheduler) & (rows["arrivals"] == mode)
        yield look, f"{readable(name)}: {scheduler}, {mode}", rows[chosen]


def scatter_panel(axes: Axes, rows: pd.DataFrame, looks: dict[tuple, dict], metric: str, label: str) -> None:
    """Draw one metric, simulated against executed, with the identity line and the band of 10 %."""
    executed, simulated = rows[f"executed_{metric}"], rows[f"simulated_{metric}"]
    low, high = np.nanmin([executed, simulated]) / 1.3, np.nanmax([executed, simulated]) * 1.3
    line = np.array([low, high])
    axes.fill_between(line, line * (1 - BAND), line * (1 + BAND), color=style.LIGHT, label="within 10 %", linewidth=0)
    axes.plot(line, line, color=style.DARK, linewidth=0.8)
    for look, name, one in groups(rows, looks):
        axes.plot(one[f"executed_{metric}"], one[f"simulated_{metric}"], **look, label=name)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel(f"executed {label}")
    axes.set_ylabel(f"simulated {label}")
    for axis in (axes.xaxis, axes.yaxis):
        style.log_axis(axis)
        axis.set_tick_params(labelsize=style.SMALL)
    axes.tick_params(axis="x", rotation=45)


def error_panel(axes: Axes, rows: pd.DataFrame, looks: dict[tuple, dict], metric: str) -> None:
    """Draw the signed error in percent of the executed value against queue size."""
    rows = rows.dropna(subset=["queue_size", f"{metric}_error_percent"])
    axes.axhspan(-100 * BAND, 100 * BAND, color=style.LIGHT, linewidth=0)
    axes.axhline(0, color=style.DARK, linewidth=0.8)
    for look, _, one in groups(rows, looks):
        axes.plot(one["queue_size"], one[f"{metric}_error_percent"], **look)
    if len(rows):
        style.queue_size_axis(axes, sorted(rows["queue_size"].astype(int).unique()))
    axes.set_ylabel("simulated - executed (%)")


def words(summary: pd.DataFrame, metric: str) -> str:
    """Return median and worst error over all runs."""
    if f"{metric}_median_percent" not in summary:
        return ""
    row = summary[(summary["set"] == "all") & (summary["arrivals"] == "all")].iloc[0]
    return f"off by {row[f'{metric}_median_percent']:.1f} %,\nworst {row[f'{metric}_worst_percent']:.0f} %"
