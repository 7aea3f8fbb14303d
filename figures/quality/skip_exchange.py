"""Does it matter which expert runs? Half of the experts skipped, or exchanged, in the first layer and in all layers."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.set_panels import panel_per_set
from moe_replay.figures.drawing.sheet import legend_below
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "skip_exchange"
TREATMENTS = ("skip", "exchange")
PLACES = ("first layer", "all layers")
LABELS = {"bits_per_byte": "loss (bits per byte)", "accuracy": "loss (share of images)"}


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a panel per set, the quality lost under each treatment."""
    figure = panel_per_set(tables, NAME, "loss", 2.3, panel)
    legend_below(figure, *figure.axes[0].get_legend_handles_labels())
    style.headline(figure, dearest(tables.rows(NAME)))
    return figure


def dearest(rows: pd.DataFrame) -> str:
    """Return the claim: skipping beside exchanging where all layers are treated, set by set."""
    said = []
    for name, own in rows[rows["treatment"] != "none"].groupby("set", sort=False) if "loss" in rows else ():
        loss = own[own["treated_layers"] == PLACES[1]].set_index("treatment")["loss"].reindex(TREATMENTS)
        unit = "bits per byte" if own["measure"].iloc[0] == "bits_per_byte" else "of accuracy"
        said.append(f"{loss['exchange']:.2g} against {loss['skip']:.2g} {unit} ({name})")
    return f"Half of the experts of every layer, exchanged against skipped, cost {' and '.join(said)}" if said else ""


def panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw the loss with its interval over random choices of the treated experts; untreated the loss is 0."""
    untreated = float(rows.loc[rows["treatment"] == "none", "quality"].iloc[0])
    for index, treatment in enumerate(TREATMENTS):
        own = rows[rows["treatment"] == treatment].set_index("treated_layers").reindex(PLACES)
        at = np.arange(len(PLACES)) + 0.36 * (index - 0.5)
        axes.bar(
            at, own["loss"], 0.34, yerr=own["loss_half_width"], capsize=3, color=style.COLOURS[index],
            hatch=("", "//")[index], edgecolor="white", label=f"{treatment} {100 * own['treated_share'].iloc[0]:.0f} %",
        )  # fmt: skip
        for x, loss, half in zip(at, own["loss"], own["loss_half_width"], strict=True):
            style.note(axes, f"{loss:.2g}", (x, loss + half), offset=(0, 2), ha="center")
    axes.set_xticks(range(len(PLACES)), PLACES)
    axes.set_title(f"{readable(name)}\nuntreated: {untreated:.3f}")
    axes.set_ylabel(f"{LABELS[rows['measure'].iloc[0]]}\n(lower is better)")
    axes.margins(y=0.12)
