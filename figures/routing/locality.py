"""Which experts are active over time, how soon are they used again, and does that differ from random order?"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.locality_panels import ALL, heat_panel
from moe_replay.figures.drawing.set_panels import legend_below, trace_name
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "locality"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: heat of the first trace beside its control; below, reuse and LRU hits of all traces."""
    rows, heat, hits = tables.rows(NAME), tables.rows(f"{NAME}_heat"), tables.rows(f"{NAME}_hits")
    tables.rows(f"{NAME}_drift")  # drawn in the supplement; its holes and digest belong to the claim
    figure, grid = plt.subplots(2, 2, figsize=(style.PAGE, 5.6), layout="constrained", height_ratios=(0.75, 1))
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
    legend_below(figure, grid[1][1])
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
    axes.bar(place - 0.2, 100 * whole["reuse"], 0.4, color=style.COLOURS[0], label="recorded order")
    axes.bar(
        place + 0.2, 100 * whole["reuse_shuffled"], 0.4, color=style.LIGHT, edgecolor=style.DARK, hatch="//",
        label="shuffled, exact mean",
    )  # fmt: skip
    axes.set_xticks(place, [label(row) for row in whole.to_dict("records")], fontsize=6.5, rotation=90)
    axes.set(ylabel="% of a token's experts", ylim=(0, 125))
    axes.legend(loc="upper left", ncols=2, fontsize=style.SMALL)


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
