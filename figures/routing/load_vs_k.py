"""How is load spread over experts for each number of experts per token?"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import beside, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "load_vs_k"
SHOWN_K = (1, 2, 4, 8)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set the samples per expert and step, the spread, and experts ranked by load."""
    rows, places = tables.read(NAME), tables.rows(f"{NAME}_places")
    sets = list(dict.fromkeys(rows.get("set", []))) or ["no set"]
    figure, grid = panels(len(sets), 3, 2.1, share_y="col")
    for row, name in zip(grid, sets, strict=True):
        chosen = rows[rows["set"] == name].dropna(subset=["k"]) if "k" in rows else rows.iloc[:0]
        row[0].set_title(f"{readable(name)}\nsamples per expert and step")
        row[1].set_title(beside(readable(name), "spread of load (0: even)"))
        row[2].set_title(beside(readable(name), "experts ranked by load"))
        if chosen.empty:
            style.hole(row[0], tables.missing(NAME, name))
            continue
        samples(row[0], chosen[chosen["layer"] == "all"])
        spread(row[1], chosen)
        ranked(row[2], places[places["set"] == name])
    for axes in grid[0][1:]:
        axes.set_ylim(bottom=0)  # of all rows, once all are drawn
    legends(grid[0])
    style.headline(figure, heaviest(rows))
    return figure


def heaviest(rows: pd.DataFrame) -> str:
    """Return the claim: what the heaviest expert serves at the model's own k, set by set."""
    if "max_over_mean" not in rows:
        return ""
    own = rows[(rows["layer"] == "all") & (rows["k"] == rows["used_k"])]
    said = [f"{row['max_over_mean']:.2f} ({row['set']}, k = {row['k']:.0f})" for row in own.to_dict("records")]
    return f"At the model's own k the heaviest expert serves {' and '.join(said)} times the mean load" if said else ""


def legends(row: list[Axes]) -> None:
    """Explain the marks once, in the first row: all rows share them."""
    for axes, place, columns in zip(row, ("upper left", "upper right", "upper right"), (1, 1, 2), strict=True):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc=place, ncols=columns, columnspacing=0.8)


def samples(axes: Axes, whole: pd.DataFrame) -> None:
    """Draw the samples an expert gets per forward step: mean, and the range from the lightest to the heaviest."""
    axes.fill_between(
        whole["k"],
        whole["least_per_step"],
        whole["most_per_step"],
        color=style.LIGHT,
        label="lightest to heaviest expert",
    )
    axes.plot(whole["k"], whole["samples_per_step"], **style.look(0), label="mean over experts")
    mark_used(axes, whole)
    style.note(axes, "the model's own k", (whole["used_k"].iloc[0], 0.02), ("data", "axes fraction"))
    axes.set_ylabel("samples")


def spread(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the coefficient of variation per layer and over all, and that of a uniform random choice."""
    layers = [layer for layer in dict.fromkeys(rows["layer"]) if layer != "all"]
    for layer in layers:
        one = rows[rows["layer"] == layer]
        label = "a single layer" if layer == layers[0] else None
        axes.plot(one["k"], one["cv"], color=style.COLOURS[0], linewidth=0.8, marker=".", label=label)
    whole = rows[rows["layer"] == "all"]
    axes.plot(whole["k"], whole["cv"], color=style.DARK, linewidth=2, label="all layers")
    axes.plot(whole["k"], whole["uniform_cv"], color=style.DARK, linestyle=style.DOTTED, label="uniform random choice")
    mark_used(axes, whole)
    axes.set_ylabel("coefficient of variation")


def ranked(axes: Axes, places: pd.DataFrame) -> None:
    """Draw load over mean load of the heaviest, second, .. expert, averaged over layers, for some k."""
    for index, k in enumerate(k for k in SHOWN_K if (places["k"] == k).any()):
        one = places[places["k"] == k]
        axes.plot(one["place"], one["over_mean"], **style.look(index), label=f"k = {k}")
    axes.axhline(1, color=style.DARK, linestyle=style.DOTTED)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("expert, heaviest first")
    axes.set_ylabel("load ÷ mean load")


def mark_used(axes: Axes, whole: pd.DataFrame) -> None:
    """Mark the k that the model itself uses, and name the x axis."""
    axes.axvline(whole["used_k"].iloc[0], color=style.MIDDLE, linewidth=0.8)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("experts per token k")
