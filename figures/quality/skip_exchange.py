"""Does it matter which expert runs? Half of the experts skipped, or exchanged, in the first layer and in all layers."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_panels import panel_per_set
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "skip_exchange"
TREATMENTS = ("skip", "exchange")
PLACES = ("first layer", "all layers")
LABELS = {"bits_per_byte": "bits per byte (held-out text)", "accuracy": "accuracy (test images)"}


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a panel per set, quality of the model under each treatment."""
    return panel_per_set(tables, NAME, "loss", (6, 4), panel)


def panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw quality with the interval over random choices of the treated experts, untreated as a line."""
    untreated = float(rows.loc[rows["treatment"] == "none", "quality"].iloc[0])
    for index, treatment in enumerate(TREATMENTS):
        own = rows[rows["treatment"] == treatment].set_index("treated_layers").reindex(PLACES)
        at = np.arange(len(PLACES)) + 0.36 * (index - 0.5)
        axes.bar(
            at, own["quality"], 0.34, yerr=own["loss_half_width"], capsize=3, color=style.COLOURS[index],
            hatch=("", "//")[index], edgecolor="white",
            label=f"{treatment} {own['treated_share'].iloc[0]:.0%} of the experts",
        )  # fmt: skip
    axes.axhline(untreated, color=style.DARK, linestyle=style.DOTTED, label=f"untreated: {untreated:.3f}")
    axes.set_xticks(range(len(PLACES)), PLACES)
    axes.set_title(name)
    axes.set(ylabel=LABELS[rows["measure"].iloc[0]])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3)
