"""What does static capacity cost beside dynamic gating: memory per expert and in all, wasted rows, time?"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "gating_memory"
VIEWS = 3  # panels of memory per expert in a row
PUBLISHED = {"lm": "language model's ratios", "mt": "translation model's ratios"}
DISPATCHES = ("static", "gathered", "dynamic")
VIEWED = ("CSk/E", 1.2)  # the capacity at which a layer shape is shown
CONVENTIONS = {"CS": "C S rows: E C / k", "CS/E": "C S / E rows: C / k", "CSk/E": "C S k / E rows: C"}


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set a row of memory per expert, and a row of the layer's memory, waste and time."""
    rows, experts = tables.read(NAME), tables.rows(f"{NAME}_experts")
    sets = list(dict.fromkeys(rows.get("set", []))) or ["no set"]
    figure, grid = plt.subplots(
        2 * len(sets), VIEWS, figsize=(13.5, 7.4 * len(sets) + 0.2), layout="constrained", squeeze=False
    )
    for index, name in enumerate(sets):
        above, below = grid[2 * index], grid[2 * index + 1]
        own = rows[(rows["set"] == name) & (rows["status"] == "ok")] if "batch" in rows else rows.iloc[:0]
        if own.empty:
            above[0].set_title(name)
            for axes in (*above, *below):
                style.hole(axes, tables.missing(NAME, name))
            continue
        expert_panels(above, name, experts[experts["set"] == name] if "set" in experts else experts)
        shown = series(own)
        peak_panel(below[0], shown)
        waste_panel(below[1], own)
        time_panel(below[2], shown)
    return figure


def series(own: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of published models' ratios, and of layer shapes at one capacity; `series` says what they are."""
    if not own["like"].notna().any():
        return own.iloc[:0].assign(series=[])
    names = own["like"].map(PUBLISHED)
    at_capacity = (own["convention"] == VIEWED[0]) & (own["capacity_factor"] == VIEWED[1])
    of_layer = at_capacity & own["like"].notna() & (own["like"] != "") & names.isna()
    return own.assign(series=names.where(~of_layer, "layer of " + own["like"].astype(str))).dropna(subset=["series"])


def expert_panels(row: np.ndarray, name: str, experts: pd.DataFrame) -> None:
    """Draw memory per expert against the batch, one panel per view."""
    views = list(dict.fromkeys(experts["view"])) if len(experts) else []
    for axes, view in zip(row, [*views, *[""] * VIEWS], strict=False):
        axes.set_title(f"{name}: memory per expert\n{view.replace(': ', chr(10))}", fontsize=style.SMALL)
        if not view:
            style.absent(axes, "this panel is not among what was measured")
            continue
        own = experts[experts["view"] == view]
        for index, ((dispatch, which), rows) in enumerate(own.groupby(["dispatch", "which"], sort=False)):
            look = style.look(index)
            axes.plot(rows["batch"], rows["peak_kib"], **look, label=f"{dispatch}, {which}: peak")
            faint = {**look, "linestyle": style.DOTTED, "markerfacecolor": "none", "linewidth": 1}
            axes.plot(rows["batch"], rows["current_kib"], **faint, label=f"{dispatch}, {which}: current")
        sizes_and_room(axes, own["batch"], "KiB of activations per expert")
        most = own["dropped_percent"].max()
        drops = f"up to {most:.0f} % of choices" if most else "nothing"
        style.note(axes, f"static drops {drops}", (0.98, 0.02), "axes fraction", (0, 2), "right")


def peak_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the layer's peak against the batch for the published models' ratios."""
    axes.set_title("peak of the whole layer")
    for index, (name, dispatch, own) in enumerate(by_dispatch(rows)):
        mib = own[f"{dispatch}_peak_bytes"] / 2**20
        axes.plot(own["batch"], mib, **style.look(index), label=f"{name}, {dispatch}")
    sizes_and_room(axes, rows["batch"], "MiB of activations at the peak")


def time_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the time per batch, median and quartiles, against the batch."""
    axes.set_title("time per batch, median and quartiles")
    for index, (name, dispatch, own) in enumerate(by_dispatch(rows)):
        median = own[f"{dispatch}_median_ms"]
        bars = [median - own[f"{dispatch}_lower_quartile_ms"], own[f"{dispatch}_upper_quartile_ms"] - median]
        axes.errorbar(own["batch"], median, bars, **style.look(index), capsize=2, label=f"{name}, {dispatch}")
    sizes_and_room(axes, rows["batch"], "ms per batch")


def by_dispatch(rows: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return (whose sizes, dispatch, its rows by batch) of every series; published models' ratios first."""
    names = dict.fromkeys([*PUBLISHED.values(), *rows["series"]])
    return [
        (name, dispatch, rows[rows["series"] == name].sort_values("batch"))
        for name in names if (rows["series"] == name).any() for dispatch in DISPATCHES
    ]  # fmt: skip


def waste_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw measured against predicted waste of every configuration, the published models named."""
    axes.set_title("waste: rows computed per row asked for")
    for index, (convention, meaning) in enumerate(CONVENTIONS.items()):
        own = rows[rows["convention"] == convention]
        look = {**style.look(index), "linestyle": "none", "markerfacecolor": "none"}
        axes.plot(own["waste_predicted"], own["waste_measured"], **look, label=meaning)
    ends = rows["waste_predicted"].min(), rows["waste_predicted"].max()
    axes.plot(ends, ends, color=style.DARK, linestyle=style.DOTTED, label="as predicted")
    published = rows[rows["like"].isin(PUBLISHED)] if rows["like"].notna().any() else rows.iloc[:0]
    for row in published.drop_duplicates("like").to_dict("records"):
        text = f"{PUBLISHED[row['like']]}: {row['waste_predicted']:g}"
        style.note(axes, text, (row["waste_predicted"], row["waste_measured"]), offset=(-6, 3), ha="right")
    axes.set(xscale="log", yscale="log", xlabel="predicted", ylabel="measured")
    for axis in (axes.xaxis, axes.yaxis):
        style.log_axis(axis)
    axes.legend(loc="lower right")


def sizes_and_room(axes: Axes, batches: pd.Series, label: str) -> None:
    """Make both axes logarithmic, one tick per batch size, with room above the curves for the legend."""
    if batches.empty:
        style.absent(axes, "the published models' ratios are not among what was measured")
        return
    axes.set(xscale="log", yscale="log", xlabel="batch S (tokens)", ylabel=label)
    ticks_at(axes.xaxis, sorted(set(batches)))
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.55)
    decades_only(axes.yaxis)
    axes.legend(loc="upper left", fontsize=style.SMALL)


def ticks_at(axis: Axis, values: list) -> None:
    """Put ticks at some values alone, as plain numbers."""
    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def decades_only(axis: Axis) -> None:
    """Label powers of ten as plain numbers; ticks between them are bare, but where the view holds no two decades."""
    low, high = axis.get_view_interval()
    if np.floor(np.log10(high)) - np.ceil(np.log10(low)) < 1:
        style.log_axis(axis)
        return
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
