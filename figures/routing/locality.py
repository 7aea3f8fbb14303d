"""Which experts are active over time, how soon are they used again, and does that differ from random order?"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.locality_panels import ALL, heat_panel
from moe_replay.figures.drawing.set_panels import trace_name
from moe_replay.figures.drawing.sheet import legend_below, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "locality"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: heat of the first trace beside its control; below, reuse and LRU hits of all traces."""
    rows, heat, hits = tables.rows(NAME), tables.rows(f"{NAME}_heat"), tables.rows(f"{NAME}_hits")
    tables.rows(f"{NAME}_drift")  # drawn in the supplement; its holes and digest belong to the claim
    figure, grid = panels(2, 2, 2.4, 1.2, heights=(0.75, 1), stacked=(0.55, 0.55, 1.25, 0.95))
    if "reuse" not in rows or rows.empty:
        style.hole(grid[0][0], tables.missing(NAME))
        for axes in grid.flat[1:]:
            axes.axis("off")
        return figure
    traces = list(heat.groupby(["set", "trace"], sort=False)) if "share" in heat else []
    for axes, order in zip(grid[0], ("recorded", "shuffled"), strict=True):
        if traces:
            heat_panel(axes, trace_name(*traces[0][0]), traces[0][1], order)
        else:
            style.absent(axes, "no heat over time was counted")
    whole = rows[(rows["layer"].astype(str) == ALL) & (rows["domain"] == ALL)]
    trace_panel(grid[1][0], whole)
    hits_panel(grid[1][1], hits)
    marks = [axes.get_legend_handles_labels() for axes in grid[1]]
    legend_below(figure, marks[0][0] + marks[1][0], marks[0][1] + marks[1][1])
    style.headline(figure, again(whole))
    return figure


def again(whole: pd.DataFrame) -> str:
    """Return the claim: reuse by the next token beside random order, of the last trace of the table."""
    row = whole.iloc[-1]
    return (
        f"The next token selects {row['reuse']:.0%} of a token's experts again, {row['reuse_shuffled']:.0%} in random "
        f"order ({trace_name(row['set'], row['trace'])})"
    )


def trace_panel(axes: Axes, whole: pd.DataFrame) -> None:
    """Draw reuse by the next token of every trace, recorded and shuffled."""
    axes.set_title("reuse by the next token\n(clips: the same patch of the next frame)")
    place = np.arange(len(whole))
    axes.barh(place - 0.2, 100 * whole["reuse"], 0.4, color=style.COLOURS[0], label="bars: recorded order")
    axes.barh(
        place + 0.2, 100 * whole["reuse_shuffled"], 0.4, color=style.LIGHT, edgecolor=style.DARK, hatch="//",
        label="shuffled, exact mean",
    )  # fmt: skip
    axes.set_yticks(place, [label(row) for row in whole.to_dict("records")])
    axes.set(xlabel="% of a token's experts", ylim=(len(whole) - 0.5, -0.5))
    axes.grid(visible=False, axis="y")


def label(row: dict) -> str:
    """Return a trace's name and, in a second line, its size."""
    return f"{trace_name(row['set'], row['trace'])}\n{int(row['tokens']):,} tokens"


def hits_panel(axes: Axes, hits: pd.DataFrame) -> None:
    """Draw LRU's hit ratio against the share of experts that fit."""
    axes.set_title("LRU hits, emptied where a sequence starts\nfull: recorded; hollow: control, shuffled")
    for index, (names, own) in enumerate(hits.groupby(["set", "trace"], sort=False)):
        look = {**style.look(index), "markevery": 4}
        for order, part in own.groupby("order", sort=False):
            faint = (
                {"linestyle": style.DOTTED, "markerfacecolor": "none", "linewidth": 1} if order == "shuffled" else {}
            )
            experts = part["slots"].max()
            axes.plot(100 * part["slots"] / experts, 100 * part["hit_ratio"], **{**look, **faint},
                      label=trace_name(*names) if order == "recorded" else None)  # fmt: skip
    axes.set(xlabel="expert slots per layer, % of the experts", ylabel="% of selections that hit")
