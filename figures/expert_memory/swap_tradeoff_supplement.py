"""Does lost gate mass tell lost quality? Every way to choose the residents, masked and skipped."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import flow
from moe_replay.figures.drawing.table_files import TableFiles

TABLE = "swap_tradeoff"
UNITS = {"bits_per_byte": "loss of quality, bits per byte", "accuracy": "loss of accuracy"}
LABELS = {"redirect": "masked (redirect)", "skip": "skipped"}


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a panel per set, lost quality against lost gate mass."""
    rows = tables.rows(TABLE)
    sets = list(dict.fromkeys(rows["set"])) if "loss" in rows else []
    figure, panels = flow(len(sets), 2, 2.6)
    for axes, name in zip(panels, sets, strict=False):
        panel(axes, name, rows[rows["set"] == name])
    if sets:
        points = len(rows[rows["miss"].isin(list(LABELS))])
        style.headline(figure, f"The more gate mass is lost, the more quality: {points} ways to run with fewer experts")
    else:
        style.hole(panels[0], tables.missing(TABLE))
    return figure


def panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw the measured relation of lost gate mass to lost quality, for both handlings."""
    for index, (miss, label) in enumerate(LABELS.items()):
        own = rows[rows["miss"] == miss]
        look = {**style.look(index), "linestyle": "none", "markerfacecolor": "none"}
        axes.errorbar(own["lost_mass"], own["loss"], own["loss_half_width"], label=label, capsize=2, **look)
    axes.set_title(readable(name))
    axes.set(xlabel="lost gate mass, share of what was selected")
    axes.set_ylabel(f"{UNITS[rows['measure'].iloc[0]]}\n(lower is better)")
    axes.legend(loc="upper left")
