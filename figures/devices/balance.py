"""How balanced are devices on selections that a planner did not see? A panel per trace, a row per planner."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "balance"
MOST_PANELS, COLUMNS = 6, 3
LABELS = {
    "contiguous": "in order", "greedy": "greedy (Huang)", "anti-correlation": "anti-corr. 0.5 (Huang)",
    "anti-correlation=0.02": "anti-corr. 0.02", "lpt": "heaviest first", "eplb": "EPLB",
}  # fmt: skip
TRACES = {
    "wide": "classifier", "language-decode": "decode", "training": "training, no balance loss",
}  # fmt: skip
KEY = (
    "On held-out batches; lower is better. Dotted: no placement without replicas does better.\n"
    "Open: with redundant experts. Orange: no better than experts in order."
)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: max/mean of every planner on held-out batches, the least balanced traces first."""
    rows = tables.rows(NAME)
    traces = list(rows.groupby(["set", "trace"], sort=False)) if "max_load" in rows else []
    traces = sorted(traces, key=lambda each: -each[1]["device_max_over_mean"].iloc[0])[:MOST_PANELS]
    shown = [(of_data(name), trace) for (name, trace), _ in traces]
    count = -(-max(1, len(traces)) // COLUMNS)
    with plt.rc_context({"font.size": 8}):
        figure, grid = plt.subplots(
            count, COLUMNS, figsize=(7, 2.1 * count + 0.5), layout="constrained", squeeze=False, sharey=bool(traces)
        )
        for axes, ((name, trace), own) in zip(grid.flat, traces, strict=False):
            alone = shown.count((of_data(name), trace)) == 1
            panel(axes, f"{of_data(name) if alone else readable(name)}: {TRACES.get(trace, trace)}", own)
        for axes in list(grid.flat)[max(1, len(traces)) :]:
            axes.axis("off")
        figure.suptitle(KEY, fontsize=style.SMALL, x=0.02, ha="left")
        if not traces:
            style.hole(grid[0][0], tables.missing(NAME))
    return figure


def of_data(name: str) -> str:
    """Return the data of a set DEVICE/DATA."""
    return name.rpartition("/")[2]


def panel(axes: Axes, trace: str, rows: pd.DataFrame) -> None:
    """Draw a trace's planners from the value with experts in order; open circles have replicas, dots are the bound."""
    bound = rows.loc[rows["planner"] == "bound", "device_max_over_mean"]
    same_as_lpt = (rows["planner"] == "eplb") & (rows["redundant"] == 0)  # without replicas it is heaviest first
    shown = rows[(rows["planner"] != "bound") & ~same_as_lpt].reset_index(drop=True)
    in_order, greedy = (
        shown.loc[shown["planner"] == name, "device_max_over_mean"].iloc[0] for name in ("contiguous", "greedy")
    )
    for at, row in shown.iterrows():
        value = row["device_max_over_mean"]
        colour = style.MIDDLE if at == 0 else style.COLOURS[0] if value < in_order else style.COLOURS[1]
        axes.hlines(at, in_order, value, color=style.LIGHT, linewidth=2, zorder=1)
        axes.plot(value, at, "o", color=colour, markerfacecolor="white" if row["redundant"] else colour, markersize=4.5)
        style.note(axes, f"{value:.2f}", (value, at), offset=(5, -2.5))
    axes.axvline(in_order, color=style.MIDDLE, linewidth=0.8)
    if len(bound):
        axes.axvline(bound.iloc[0], color=style.DARK, **style.THEORY)
    axes.set_title(f"{trace}\n{in_order:.2f} in order, {greedy:.2f} greedy", fontsize=style.FONT)
    axes.set_yticks(range(len(shown)), [label(row) for _, row in shown.iterrows()])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("heaviest device ÷ mean")
    axes.margins(x=0.2)


def label(row: pd.Series) -> str:
    """Return what a planner is called."""
    text = LABELS.get(row["planner"], row["planner"])
    return f"{text} +{row['redundant']}" if row["redundant"] else text
