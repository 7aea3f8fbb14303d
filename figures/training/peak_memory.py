"""How much memory does a training iteration need in the best order of its operations, and is that the least?"""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "peak_memory"
KEY = "AC: activation checkpointing of every layer"
PRINTED = {"font.size": 8, "lines.markersize": 4, "axes.titlesize": 8}  # read at the width it is drawn for: 7 inches
MODELS = {"classifier": "classifier", "vit": "ViT", "language": "language model"}
AGAIN = {"none": "", "layer": " AC", "selective": " selective AC"}
# Those that inductor has too are named so; in the legend the best comes first.
ORDERS = {
    "bfs": "breadth first", "dfs": "depth first", "random": "random, best of many",
    "lpmf": "least peak first (inductor)", "captured": "as captured", "best": "best found",
}  # fmt: skip
SHARES = (0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 10)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set the orders' peaks, what interleaving adds, and below them compiled iterations."""
    rows, compiled = tables.rows(NAME), tables.rows(f"{NAME}_compiled")
    sets = list(dict.fromkeys(rows["set"])) if "step_order" in rows else []
    numbers = tables.claim(NAME)["numbers"] if sets else {}
    with matplotlib.rc_context(PRINTED):
        figure = plt.figure(figsize=(7, 5.9 * max(1, len(sets))), layout="constrained")
        parts = np.atleast_1d(figure.subfigures(max(1, len(sets)), 1))
        for part, name in zip(parts, sets, strict=False):
            of_set = compiled[compiled["set"] == name] if "way" in compiled else pd.DataFrame()
            draw_set(part, name, rows[rows["set"] == name], of_set, numbers.get(name, {}))
        if not sets:
            style.hole(parts[0].subplots(), tables.missing(NAME))
    return figure


def draw_set(part: Figure, name: str, rows: pd.DataFrame, compiled: pd.DataFrame, numbers: dict) -> None:
    """Draw one set's three panels."""
    grid = part.add_gridspec(2, 2, width_ratios=(2.1, 1), height_ratios=(1.75, 1))
    graphs = list(dict.fromkeys(rows["graph"]))[::-1]
    left = part.add_subplot(grid[0, 0])
    right = part.add_subplot(grid[0, 1], sharey=left)
    orders_panel(left, rows, graphs, numbers)
    waiting_panel(right, rows, graphs, numbers)
    compiled_panel(part.add_subplot(grid[1, :]), compiled)
    handles, labels = left.get_legend_handles_labels()
    part.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=style.SMALL,
                title=f"{readable(name)} ({KEY})", title_fontsize=style.SMALL)  # fmt: skip


def title_of(row: dict) -> str:
    """Return what an iteration is called: model, batch, checkpointing."""
    again = AGAIN.get(row["checkpoint"], f" {row['checkpoint']}")
    apart = ",\nexperts apart" if row.get("separate_experts") in (True, "True") else ""
    return f"{MODELS.get(row['model'], row['model'])} b{row['batch_size']:.0f}{again}{apart}"


def orders_panel(axes: Axes, rows: pd.DataFrame, graphs: list[str], numbers: dict) -> None:
    """Draw the measured peak of every order over eager's, one row per iteration, and the lower bound as a line."""
    places = {graph: place for place, graph in enumerate(graphs)}
    share = 1 + rows["over_eager_percent"] / 100
    free = rows["interleaved"].astype(bool) | (rows["step_order"] == "captured")
    known = [order for order in ORDERS if order in set(rows["step_order"])]
    for index, order in enumerate(known[::-1]):
        own = free & (rows["step_order"] == order)
        look = {**style.look(index), "linestyle": "none"} | ({} if order == "best" else {"markerfacecolor": "none"})
        axes.plot(
            share[own], rows.loc[own, "graph"].map(places), **look, label=ORDERS[order], zorder=3 + (order == "best")
        )
    best = rows[free & (rows["step_order"] == "best")]
    bound = (1 + best["over_eager_percent"] / 100) / (1 + best["over_bound_percent"] / 100)
    at = best["graph"].map(places)
    axes.vlines(bound, at - 0.38, at + 0.38, color=style.DARK, linewidth=1.2, label="no order needs less")
    axes.axvline(1, color=style.MIDDLE, linewidth=0.8, linestyle=style.DOTTED)
    axes.set_xscale("log")
    low, high = min(0.3, bound.min() * 0.93), max(share.max() * 1.08, 1.1)
    axes.xaxis.set_major_locator(FixedLocator([each for each in SHARES if low <= each <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlim=(low, high), xlabel="measured peak over eager's", yticks=list(places.values()))
    labels = rows.drop_duplicates("graph").set_index("graph").to_dict("index")
    axes.set_yticklabels([title_of(labels[graph]) for graph in graphs])
    saved = numbers.get("median_below_eager_percent")
    claim = f"a  With AC the best order takes {saved:.0f} % less (median)" if saved is not None else "a  Orders"
    axes.set_title(claim, fontsize=style.FONT, loc="left")


def waiting_panel(axes: Axes, rows: pd.DataFrame, graphs: list[str], numbers: dict) -> None:
    """Draw what the best order saves against the captured one, with the optimizer waiting and interleaved."""
    best = rows[rows["step_order"] == "best"]
    for free, label in ((False, "reordered only"), (True, "optimizer interleaved")):
        own = best[best["interleaved"].astype(bool) == free].set_index("graph")["over_captured_percent"]
        at = np.arange(len(graphs)) + (0.2 if free else -0.2)
        axes.barh(at, -own.reindex(graphs), height=0.36, color=style.COLOURS[0 if free else 4], label=label)
    axes.tick_params(labelleft=False)
    axes.set_xlabel("% below captured")
    gains = [numbers.get(f"median_below_captured{waiting}_percent") for waiting in ("_waiting", "")]
    told = f": from {gains[0]:.0f} to {gains[1]:.0f} %" if None not in gains else ""
    axes.set_title(f"b  Saved{told}", fontsize=style.FONT, loc="left")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), fontsize=style.SMALL, borderaxespad=0.1)


def compiled_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the measured peak of every way of compiling over eager's, its time of a step written on the bar."""
    axes.set_title("c  Compiled by inductor; above each bar its time over eager's", fontsize=style.FONT, loc="left")
    if not len(rows):
        style.absent(axes, "no compiled iteration was measured")
        return
    steps = list(dict.fromkeys(map(title_of, rows.to_dict("records"))))
    ways = [way for way in dict.fromkeys(rows["way"]) if way != "eager"]
    width = 0.8 / max(len(ways), 1)
    for index, way in enumerate(ways):
        own = rows[rows["way"] == way]
        at = np.array([steps.index(title_of(row)) for row in own.to_dict("records")]) + (index + 0.5) * width - 0.4
        share = 1 + own["over_eager_percent"] / 100
        axes.bar(at, share, width=width * 0.92, color=style.COLOURS[index], label=way)
        for x, y, times in zip(at, share.fillna(0), own["time_over_eager"], strict=True):
            told = "none" if pd.isna(times) else f"{times:.2f}"
            turned = {"rotation": 90} if pd.isna(times) else {}
            axes.annotate(told, (x, y), (0, 1), textcoords="offset points", ha="center", fontsize=5.5, **turned)
    axes.axhline(1, color=style.MIDDLE, linewidth=0.8, linestyle=style.DOTTED)
    axes.set_xticks(range(len(steps)), [step.replace(" b", "\nb", 1) for step in steps])
    axes.set(
        ylabel="peak over eager's",
        xlim=(-0.5, len(steps) - 0.5),
        ylim=(0, 1.3 * max(1, 1 + rows["over_eager_percent"].max() / 100)),
    )
    axes.legend(loc="upper left", fontsize=style.SMALL, ncols=len(ways), borderaxespad=0.1)
