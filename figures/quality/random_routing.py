"""Dense, switch or random routing with averaged weights: accuracy, size and time of vision transformers."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import is_column, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "random_routing"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set accuracy against epoch, times and sizes; the caption has the numbers."""
    whole, rows, epochs = tables.read(NAME), tables.rows(NAME), tables.rows(f"{NAME}_epochs")
    sets = list(dict.fromkeys(whole.get("set", []))) or ["no set"]
    figure, grid = panels(len(sets), 3, 2.8, widths=(1.3, 1, 0.8))
    for (accuracy, times, sizes), name in zip(grid, sets, strict=True):
        own, by_epoch = of_set(rows, name), of_set(epochs, name)
        if "label" not in own or own["label"].dropna().empty:
            style.hole(accuracy, tables.missing(NAME, name))
            continue
        own = own[own["label"].notna()].reset_index(drop=True)
        accuracy_panel(accuracy, own, by_epoch)
        accuracy.set_title(f"{readable(name)}\n{accuracy.get_title(loc='left')}")
        times_panel(times, own)
        sizes_panel(sizes, own)
        if tables.holes_of(name):
            style.hole(accuracy, tables.holes_of(name), beside_data=True)
    style.headline(figure, against_dense(rows))
    return figure


def against_dense(rows: pd.DataFrame) -> str:
    """Return the claim: the best accuracy of every configuration of the first set."""
    if "accuracy_percent" not in rows or rows["label"].dropna().empty:
        return ""
    own = rows[rows["label"].notna() & (rows["set"] == rows["set"].iloc[0])]
    said = [f"{row['label']} {row['accuracy_percent']:.1f} %" for row in own.to_dict("records")]
    return f"Best accuracy: {'; '.join(said)} ({own['set'].iloc[0]})"


def of_set(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of one set."""
    return table[table["set"] == name] if "set" in table else table.iloc[:0]


def accuracy_panel(axes: Axes, rows: pd.DataFrame, epochs: pd.DataFrame) -> None:
    """Draw test accuracy after every epoch: a line for the mean over seeds, a small mark for every seed."""
    axes.set_title("test accuracy, higher is better")
    for index, name in enumerate(rows["label"]):
        own = epochs[epochs["label"] == name] if "label" in epochs else epochs
        if own.empty:
            continue
        look = style.look(index)
        axes.plot(own["epoch"], own["accuracy_percent"], linestyle="none", marker=look["marker"], markersize=2.5,
                  color=look["color"], alpha=0.6)  # fmt: skip
        means = own.drop_duplicates("epoch").sort_values("epoch")
        axes.plot(means["epoch"], means["mean_accuracy_percent"], **look, label=name)
    threshold = rows["threshold_percent"].iloc[0]
    axes.axhline(threshold, color=style.DARK, linestyle=style.DOTTED, linewidth=0.9)
    style.note(axes, f"{threshold:g} %", (1, threshold), ("axes fraction", "data"), (-2, 2), "right")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch")
    axes.set_ylabel("accuracy (%); lines: mean of seeds")
    axes.legend(loc="lower right")


def times_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw seconds for 60,000 images, training and inference: mean, and least to most over repetitions."""
    axes.set_title("time for 60,000 images\n(circles: training, squares: inference)", fontsize=style.SMALL)
    if rows["training_s"].isna().all():
        style.absent(axes, "times were not measured")
        return
    for offset, what in enumerate(("training", "inference")):
        mean = rows[f"{what}_s"]
        bars = [mean - rows[f"{what}_s_min"], rows[f"{what}_s_max"] - mean]
        look = {**style.look(offset), "linestyle": "none"}
        axes.errorbar(mean, np.arange(len(rows)) + 0.12 * (2 * offset - 1), xerr=bars, capsize=2.5, **look)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds (lower is better)")
    name_rows(axes, rows)


def sizes_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the weights that are trained, and those that are deployed, as bars."""
    axes.set_title("weights")
    for offset, (column, label) in enumerate((("trained_parameters", "trained"), ("deployed_parameters", "deployed"))):
        places = np.arange(len(rows)) + 0.2 * (2 * offset - 1)
        axes.barh(places, rows[column] / 1e3, height=0.36, color=(style.LIGHT, style.MIDDLE)[offset], label=label)
    axes.set_xlabel("thousands of weights")
    name_rows(axes, rows)
    if not is_column():
        axes.set_yticklabels([])  # they are the panel's on the left
    axes.legend(loc="best")


def name_rows(axes: Axes, rows: pd.DataFrame) -> None:
    """Name the configurations on the y axis, the first at the top."""
    axes.set_yticks(np.arange(len(rows)), [name.replace(", ", ",\n", 1) for name in rows["label"]])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
