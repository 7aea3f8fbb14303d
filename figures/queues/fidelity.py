"""How close does the simulator come to what was executed? Every run's signed error, group by group and against B."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "fidelity"
PANELS = {"throughput": "throughput", "latency_p50": "median latency", "latency_p95": "p95 latency"}
STACKED = (1.2, 1.2, 1.2, 0.75, 0.75, 0.75)  # heights of the panels on a column
FILLINGS = ("none", "left", "full", "top")  # of marks: what set, in grey too
BAND = 10  # percent
ASIDE = 0.09  # of the distance between two queue sizes: neighbouring groups are drawn so far apart
KEY = (
    "Every mark is a run; grey: within 10 %. Above, bars and numbers are the mean of a group, its bias: above 0 the "
    "simulator is too high. Below, the same runs against queue size, runs without one left out."
)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: signed errors of three metrics, above group by group, below against queue size."""
    rows, summary = tables.rows(NAME), tables.rows(f"{NAME}_summary")
    figure, grid = panels(
        2, 3, 2.0, 0.9, heights=(1.15, 0.85), share_y="row", stacked=(1.2, 1.2, 1.2, 0.75, 0.75, 0.75)
    )
    compared = rows[rows["status"] == "ok"] if "status" in rows else rows
    looks = looks_of(compared) if "arrivals" in compared else {}
    for (metric, label), above, below in zip(PANELS.items(), *grid, strict=True):
        above.set_title(f"{label}{bias(summary, metric)}")
        if f"{metric}_error_percent" not in compared or compared[f"{metric}_error_percent"].isna().all():
            style.hole(above, tables.missing(NAME))
            below.axis("off")
            continue
        groups_panel(above, compared, looks, metric, summary)
        sizes_panel(below, compared, looks, metric, label)
    if tables.holes:
        grid[0][0].set_title(f"throughput ({len(tables.holes)} missing or failed, see the caption)", color=style.ALARM)
    style.key(figure, KEY)
    style.headline(figure, errors(summary))
    return figure


def errors(summary: pd.DataFrame) -> str:
    """Return the claim: bias, median and worst error of throughput over all runs."""
    if "throughput_bias_percent" not in summary or summary.empty:
        return ""
    row = summary[(summary["set"] == "all") & (summary["arrivals"] == "all")].iloc[0]
    side = "high" if row["throughput_bias_percent"] > 0 else "low"
    return (
        f"Simulated throughput is {abs(row['throughput_bias_percent']):.1f} % too {side} on average and within "
        f"{row['throughput_median_percent']:.1f} % of executed in half of {row['runs']:.0f} runs, at worst "
        f"{row['throughput_worst_percent']:.0f} % off"
    )


def bias(summary: pd.DataFrame, metric: str) -> str:
    """Return the bias of a metric over all runs, for a panel's title."""
    if "arrivals" not in summary:
        return ""
    found = bias_of(summary[(summary["set"] == "all") & (summary["arrivals"] == "all")], metric)
    return f": bias {found:+.1f} %" if found is not None else ""


def bias_of(found: pd.DataFrame, metric: str) -> float | None:
    """Return the bias of a metric in the row of a summary; None where there is none."""
    column = f"{metric}_bias_percent"
    return found[column].iloc[0] if column in found and len(found) and found[column].notna().iloc[0] else None


def looks_of(rows: pd.DataFrame) -> dict[tuple, dict]:
    """Return a look per (set, scheduler, arrivals): colours and fillings tell sets apart, markers what ran."""
    named = rows[["set", "scheduler", "arrivals"]].drop_duplicates().itertuples(index=False, name=None)
    keys = sorted(named, key=lambda key: (key[0], key[1] != "queues", key[2]))
    sets, kinds = list(dict.fromkeys(key[0] for key in keys)), list(dict.fromkeys(key[1:] for key in keys))
    return {
        key: {
            "linestyle": "none", "markersize": 3.5, "markeredgewidth": 0.7,
            "marker": style.MARKERS[kinds.index(key[1:]) % len(style.MARKERS)],
            "color": style.COLOURS[sets.index(key[0]) % len(style.COLOURS)], "markerfacecoloralt": "white",
            "fillstyle": FILLINGS[sets.index(key[0]) % len(FILLINGS)],
        }
        for key in keys
    }  # fmt: skip


def of_group(rows: pd.DataFrame, key: tuple) -> pd.DataFrame:
    """Return the rows of a (set, scheduler, arrivals)."""
    if "scheduler" not in rows:
        return rows.iloc[:0]
    return rows[(rows["set"] == key[0]) & (rows["scheduler"] == key[1]) & (rows["arrivals"] == key[2])]


def groups_panel(axes: Axes, rows: pd.DataFrame, looks: dict[tuple, dict], metric: str, summary: pd.DataFrame) -> None:
    """Draw a row of marks per group, spread over the height of the row so that few hide others, and their mean."""
    column, height, names, named = f"{metric}_error_percent", 0.0, {}, None
    axes.axvspan(-BAND, BAND, color=style.LIGHT, linewidth=0)
    axes.axvline(0, color=style.DARK, linewidth=0.8)
    for key, look in looks.items():
        if key[0] != named:
            named = key[0]
            names[height] = readable(named)
            height -= 1
        error = of_group(rows, key)[column].dropna().sort_values()
        spread = 0.26 * np.sin(np.arange(len(error)) * 2.4)  # neighbours in value lie apart
        axes.plot(error, height + spread, **look)
        mean = bias_of(of_group(summary, key), metric)
        if mean is not None:
            axes.plot([mean, mean], [height - 0.48, height + 0.48], color=style.DARK, linewidth=1.8)
            style.note(axes, f"{mean:+.1f}", (1, height), axes.get_yaxis_transform(), (-1, -2.5), "right")
        names[height] = f"{key[1]}, {key[2]}"
        height -= 1
    ticks = axes.set_yticks(list(names), list(names.values()))
    for tick, name in zip(ticks, names.values(), strict=True):
        tick.label1.set_fontweight("normal" if ", closed" in name or ", poisson" in name else "bold")
    low, high = ends(rows)
    axes.set(ylim=(height + 0.4, 0.6), xlim=(low, high + 0.25 * (high - low)), xlabel="simulated - executed (%)")
    axes.grid(visible=False, axis="y")


def ends(rows: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the scale of errors: that of all panels, so that metrics can be compared."""
    errors = rows[[f"{metric}_error_percent" for metric in PANELS]]
    return min(-1.2 * BAND, errors.min(axis=None) - 3), max(1.2 * BAND, errors.max(axis=None) + 3)


def sizes_panel(axes: Axes, rows: pd.DataFrame, looks: dict[tuple, dict], metric: str, label: str) -> None:
    """Draw the signed error in percent of the executed value against queue size, groups side by side."""
    sized = rows.dropna(subset=["queue_size", f"{metric}_error_percent"])
    axes.axhspan(-BAND, BAND, color=style.LIGHT, linewidth=0)
    axes.axhline(0, color=style.DARK, linewidth=0.8)
    for at, (key, look) in enumerate(looks.items()):
        one = of_group(sized, key)
        axes.plot(one["queue_size"] * 2 ** (ASIDE * (at - len(looks) / 2)), one[f"{metric}_error_percent"], **look)
    if len(sized):
        sizes = sorted(sized["queue_size"].astype(int).unique())
        style.queue_size_axis(axes, sizes)
        axes.set_xlim(sizes[0] / 1.6, sizes[-1] * 1.6)
    axes.set(ylabel="error (%)", ylim=ends(rows))
    axes.set_title(f"{label} against B")
