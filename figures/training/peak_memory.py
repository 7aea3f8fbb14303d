"""How much memory does a training iteration need in the best order of its operations, and is that the least?"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import TALLEST, is_column, legend_below, width
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "peak_memory"
KEY = "AC: activation checkpointing of every layer; apart: a weight of its own for every expert; b: batch."
MODELS = {"classifier": "classifier", "vit": "ViT", "language": "language model"}
AGAIN = {"none": "", "layer": " AC", "selective": " selective AC"}
# Those that inductor has too are named so; in the legend the best comes first.
ORDERS = {
    "bfs": "breadth first", "dfs": "depth first", "random": "random, best of many",
    "lpmf": "least peak first (inductor)", "captured": "as captured", "best": "best found",
}  # fmt: skip
SHARES = {"page": (0.3, 0.4, 0.5, 0.7, 1, 1.5, 2, 3, 4, 6, 8, 10), "column": (0.25, 0.5, 1, 2, 4, 8)}


NUMBER = 0.28  # inches of a number above a bar


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set the orders' peaks, what interleaving adds, and below them compiled iterations."""
    rows, compiled = tables.rows(NAME), tables.rows(f"{NAME}_compiled")
    sets = list(dict.fromkeys(rows["set"])) if "step_order" in rows else []
    numbers = tables.claim(NAME)["numbers"] if sets else {}
    tall = 9.0 if is_column() else 6.0
    tall = min(tall * max(1, len(sets)), TALLEST)
    figure = plt.figure(figsize=(width(), tall), layout="constrained")
    parts = np.atleast_1d(figure.subfigures(max(1, len(sets)), 1))
    marks: dict[str, object] = {}
    for part, name in zip(parts, sets, strict=False):
        of_set = compiled[compiled["set"] == name] if "way" in compiled else pd.DataFrame()
        marks |= draw_set(part, name, rows[rows["set"] == name], of_set, numbers.get(name, {}))
    legend_below(figure, list(marks.values()), list(marks), said=KEY)
    if not sets:
        style.hole(parts[0].subplots(), tables.missing(NAME))
    style.headline(figure, best_order(numbers))
    return figure


def best_order(numbers: dict) -> str:
    """Return the claim: what the best order of operations saves where layers are checkpointed, set by set."""
    said = [
        f"{found['median_below_eager_percent']:.0f} % less memory than eager in the median "
        f"({found['least_below_eager_percent']:.0f} to {found['most_below_eager_percent']:.0f} %; {name})"
        for name, found in numbers.items()
        if isinstance(found, dict) and found.get("median_below_eager_percent") is not None
    ]
    return f"With checkpointing the best order of operations needs {' and '.join(said)}" if said else ""


def draw_set(part: Figure, name: str, rows: pd.DataFrame, compiled: pd.DataFrame, numbers: dict) -> dict[str, object]:
    """Draw one set's three panels, and return the marks in them by what they mean."""
    graphs = list(dict.fromkeys(rows["graph"]))[::-1]
    if is_column():
        left, right, below = (each.subplots() for each in part.subfigures(3, 1, height_ratios=(1.4, 1.3, 1.2)))
    else:
        grid = part.add_gridspec(2, 2, width_ratios=(2.1, 1), height_ratios=(1.75, 1))
        left = part.add_subplot(grid[0, 0])
        right, below = part.add_subplot(grid[0, 1], sharey=left), part.add_subplot(grid[1, :])
        right.tick_params(labelleft=False)
    orders_panel(left, rows, graphs, numbers)
    waiting_panel(right, rows, graphs, numbers)
    compiled_panel(below, compiled, numbers)
    left.set_title(f"{readable(name)}\n{left.get_title(loc='left')}")
    drawn = [axes.get_legend_handles_labels() for axes in (left, right, below)]
    return {label: mark for handles, labels in drawn for mark, label in zip(handles, labels, strict=True)}


def title_of(row: dict) -> str:
    """Return what an iteration is called: model, batch, checkpointing."""
    again = AGAIN.get(row["checkpoint"], f" {row['checkpoint']}")
    apart = ", apart" if row.get("separate_experts") in (True, "True") else ""
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
    shares = SHARES["column" if is_column() else "page"]
    axes.xaxis.set_major_locator(FixedLocator([each for each in shares if low <= each <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set(xlim=(low, high), xlabel="measured peak over eager's", yticks=list(places.values()))
    labels = rows.drop_duplicates("graph").set_index("graph").to_dict("index")
    axes.set_yticklabels([title_of(labels[graph]) for graph in graphs])
    saved = numbers.get("median_below_eager_percent")
    claim = f"a  With AC the best order takes {saved:.0f} % less (median)" if saved is not None else "a  Orders"
    axes.set_title(claim)


def waiting_panel(axes: Axes, rows: pd.DataFrame, graphs: list[str], numbers: dict) -> None:
    """Draw what the best order saves against the captured one, with the optimizer waiting and interleaved."""
    best = rows[rows["step_order"] == "best"]
    for free, label in ((False, "reordered only"), (True, "optimizer interleaved")):
        own = best[best["interleaved"].astype(bool) == free].set_index("graph")["over_captured_percent"]
        at = np.arange(len(graphs)) + (0.2 if free else -0.2)
        axes.barh(at, -own.reindex(graphs), height=0.36, color=style.COLOURS[0 if free else 4], label=f"b: {label}")
    labels = rows.drop_duplicates("graph").set_index("graph").to_dict("index")
    axes.set_yticks(range(len(graphs)), [title_of(labels[graph]) for graph in graphs])
    axes.set_xlabel("% below captured")
    gains = [numbers.get(f"median_below_captured{waiting}_percent") for waiting in ("_waiting", "")]
    told = f": from {gains[0]:.0f} to {gains[1]:.0f} %" if None not in gains else ""
    axes.set_title(f"b  Saved{told}")


def panel_inches(axes: Axes) -> float:
    """Return about how high the panel of compiled iterations will be, once names and legend have got their room."""
    high = axes.figure.bbox.height / axes.figure.dpi
    return max(1.6 * NUMBER, high - 2 if is_column() else high / 2.75 - 1.1)


def compiled_panel(axes: Axes, rows: pd.DataFrame, numbers: dict) -> None:
    """Draw the measured peak of every way of compiling over eager's, its time of a step written on the bar."""
    medians = [(found["over_eager_percent"], way) for way, found in numbers.get("compiled", {}).items()]
    claim = f": at best {min(medians)[0]:+.0f} % with AC (median, {min(medians)[1]})" if medians else ""
    axes.set_title(f"c  Compiled by inductor{claim}; numbers: time over eager's")
    if not len(rows):
        style.absent(axes, "no compiled iteration was measured")
        return
    steps = list(dict.fromkeys(map(title_of, rows.to_dict("records"))))
    ways = [way for way in dict.fromkeys(rows["way"]) if way != "eager"]
    thick = 0.8 / max(len(ways), 1)
    for index, way in enumerate(ways):
        own = rows[rows["way"] == way]
        at = np.array([steps.index(title_of(row)) for row in own.to_dict("records")]) + (index + 0.5) * thick - 0.4
        share = 1 + own["over_eager_percent"] / 100
        looks = {"color": style.COLOURS[index], "hatch": style.HATCHES[index], "edgecolor": "white", "linewidth": 0}
        axes.bar(at, share, width=thick * 0.92, label=f"c: {way}", **looks)
        for x, y, times in zip(at, share.fillna(0), own["time_over_eager"], strict=True):
            told = "none" if pd.isna(times) else f"{times:.2f}"
            beside = {"textcoords": "offset points", "ha": "center", "rotation": 90, "fontsize": style.SMALL}
            axes.annotate(told, (x, y), (0, 2), **beside)
    axes.axhline(1, color=style.MIDDLE, linewidth=0.8, linestyle=style.DOTTED)
    broken = [step.replace(" ", "\n") if is_column() else step.replace(" b", "\nb", 1) for step in steps]
    axes.set_xticks(range(len(steps)), broken)
    axes.set(
        ylabel="peak over eager's",
        xlim=(-0.5, len(steps) - 0.5),
        ylim=(0, max(1, 1 + rows["over_eager_percent"].max() / 100) / (1 - NUMBER / panel_inches(axes))),
    )
