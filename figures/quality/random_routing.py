"""Dense, switch or random routing with averaged weights: accuracy, size and time of vision transformers."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "random_routing"
TITLES = {
    "label": "model", "trained": "weights\ntrained", "deployed": "weights\ndeployed",
    "accuracy": "best accuracy (%)\nmean, least to most",
    "best": "at epoch\n(by seed)", "over": "first epoch over\n{threshold:g} % (by seed)",
    "training": "training, 60,000\nimages (s)",
    "inference": "inference, 60,000\nimages (s)", "ratio": "inference\nover dense, 95 %",
}  # fmt: skip
WIDTHS = (0.22, 0.09, 0.09, 0.14, 0.08, 0.13, 0.11, 0.11, 0.14)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set accuracy against epoch, times, sizes, and below them the table of results."""
    whole, rows, epochs = tables.read(NAME), tables.rows(NAME), tables.rows(f"{NAME}_epochs")
    sets = list(dict.fromkeys(whole.get("set", []))) or ["no set"]
    figure = plt.figure(figsize=(13, 6.0 * len(sets) + 0.2), layout="constrained")
    parts = figure.subfigures(len(sets), 1, squeeze=False)[:, 0]
    for part, name in zip(parts, sets, strict=True):
        part.suptitle(name, x=0.01, ha="left", fontweight="bold")
        grid = part.subplot_mosaic([["accuracy", "times", "sizes"], ["table"] * 3], height_ratios=[3.2, 1.9])
        own, by_epoch = of_set(rows, name), of_set(epochs, name)
        grid["table"].axis("off")
        if "label" not in own or own["label"].dropna().empty:
            style.hole(grid["accuracy"], tables.missing(NAME, name))
            continue
        own = own[own["label"].notna()].reset_index(drop=True)
        accuracy_panel(grid["accuracy"], own, by_epoch)
        times_panel(grid["times"], own)
        sizes_panel(grid["sizes"], own)
        results_table(grid["table"], own)
        if tables.holes_of(name):
            style.hole(grid["accuracy"], tables.holes_of(name), beside_data=True)
    return figure


def of_set(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of one set."""
    return table[table["set"] == name] if "set" in table else table.iloc[:0]


def accuracy_panel(axes: Axes, rows: pd.DataFrame, epochs: pd.DataFrame) -> None:
    """Draw test accuracy after every epoch: a line for the mean over seeds, a small mark for every seed."""
    axes.set_title("test accuracy (random routing: averaged weights)")
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
    axes.set_ylabel("accuracy (%); lines: mean over seeds")
    axes.legend(loc="lower right")


def times_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw seconds for 60,000 images, training and inference: mean, and least to most over repetitions."""
    axes.set_title("time for 60,000 images")
    if rows["training_s"].isna().all():
        style.absent(axes, "times were not measured")
        return
    for offset, (what, label) in enumerate((("training", "training"), ("inference", "inference, deployed model"))):
        mean = rows[f"{what}_s"]
        bars = [mean - rows[f"{what}_s_min"], rows[f"{what}_s_max"] - mean]
        look = {**style.look(offset), "linestyle": "none"}
        axes.errorbar(mean, np.arange(len(rows)) + 0.12 * (2 * offset - 1), xerr=bars, capsize=2.5, label=label, **look)
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds; bars: least to most over repetitions")
    name_rows(axes, rows)
    # Above the axes: an entry of this legend looks like one of the points.
    narrow = {"ncols": 2, "fontsize": style.SMALL, "columnspacing": 1, "handlelength": 1, "handletextpad": 0.4}
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0.2, **narrow)


def sizes_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the weights that are trained, and those that are deployed, as bars."""
    axes.set_title("weights")
    for offset, (column, label) in enumerate((("trained_parameters", "trained"), ("deployed_parameters", "deployed"))):
        places = np.arange(len(rows)) + 0.2 * (2 * offset - 1)
        axes.barh(places, rows[column] / 1e3, height=0.36, color=(style.LIGHT, style.MIDDLE)[offset], label=label)
    axes.set_xlabel("thousands of weights")
    name_rows(axes, rows)
    axes.legend(loc="best")


def name_rows(axes: Axes, rows: pd.DataFrame) -> None:
    """Name the configurations on the y axis, the first at the top."""
    axes.set_yticks(np.arange(len(rows)), [name.replace(", ", ",\n", 1) for name in rows["label"]])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def results_table(axes: Axes, rows: pd.DataFrame) -> None:
    """Write the results as a table: a row per configuration."""
    titles = [title.format(threshold=rows["threshold_percent"].iloc[0]) for title in TITLES.values()]
    words = [list(row_words(row).values()) for row in rows.to_dict("records")]
    table = axes.table(
        words, colLabels=titles, colWidths=WIDTHS, cellLoc="right", bbox=(0, 0, 1, 1), edges="horizontal"
    )
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    for (line, column), cell in table.get_celld().items():
        cell.set_edgecolor(style.LIGHT)
        cell.get_text().set_fontweight("bold" if line == 0 else "normal")
        if column == 0:
            cell.get_text().set_ha("left")


def row_words(row: dict) -> dict[str, str]:
    """Return the cells of one configuration, in the order of `TITLES`."""
    least, most = row["accuracy_percent_min"], row["accuracy_percent_max"]
    low, high = row["inference_over_dense_low"], row["inference_over_dense_high"]
    ratio = f"{row['inference_over_dense']:.2f} ({low:.2f} to {high:.2f})" if pd.notna(low) else "not measured"
    times = {what: f"{row[f'{what}_s']:.1f}" for what in ("training", "inference")}
    return {
        "label": row["label"],
        **{kind: f"{row[f'{kind}_parameters']:,}" for kind in ("trained", "deployed")},
        "accuracy": f"{row['accuracy_percent']:.2f} ({least:.2f} to {most:.2f})", "best": str(row["best_epochs"]),
        "over": str(row["first_epochs_over"]),
        **{what: "not measured" if text == "nan" else text for what, text in times.items()},
        "ratio": "1" if row["variant"] == "dense" and ratio[0] == "1" else ratio,
    }  # fmt: skip
