"""What static capacity wastes: memory per expert in every view, and computed rows per row asked for."""

from textwrap import fill

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.batch_scales import PUBLISHED, sizes_and_room
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.set_panels import grid_of
from moe_replay.figures.drawing.table_files import TableFiles

TABLE = "gating_memory"
MOST_VIEWS = 4  # with a panel of waste for each of two sets they make six
CONVENTIONS = {"CS": "C S rows: E C / k", "CS/E": "C S / E rows: C / k", "CSk/E": "C S k / E rows: C"}


def draw(tables: TableFiles) -> Figure:
    """Return the figure: memory per expert against the batch, a panel per set and view; waste, a panel per set."""
    rows, experts = tables.rows(TABLE), tables.rows(f"{TABLE}_experts")
    views = list(experts.groupby(["set", "view"], sort=False))[:MOST_VIEWS] if "view" in experts else []
    sets = list(rows.groupby("set", sort=False)) if "waste_measured" in rows and len(rows) else []
    figure, panels = grid_of(len(views) + len(sets), 2, 2.5)
    for axes, ((name, view), own) in zip(panels, views, strict=False):
        expert_panel(axes, name, view, own)
    for axes, (name, own) in zip(panels[len(views) :], sets, strict=False):
        waste_panel(axes, name, own)
    if not sets:
        style.hole(panels[0], tables.missing(TABLE))
    style.headline(figure, wasted(rows))
    return figure


def wasted(rows: pd.DataFrame) -> str:
    """Return the claim: rows that static dispatch computes per row asked for, at the published models' ratios."""
    if "waste_measured" not in rows or not rows["like"].isin(PUBLISHED).any():
        return ""
    own = rows[rows["like"].isin(PUBLISHED)].drop_duplicates("like").to_dict("records")
    said = " and ".join(f"{row['waste_measured']:.4g} ({PUBLISHED[row['like']]})" for row in own)
    return f"For every row asked for static capacity computes {said}, as predicted"


def expert_panel(axes: Axes, name: str, view: str, own: pd.DataFrame) -> None:
    """Draw memory per expert against the batch in one view."""
    axes.set_title(f"{readable(name)}: memory per expert\n{fill(str(view), 56)}", fontsize=style.SMALL)
    for index, ((dispatch, which), rows) in enumerate(own.groupby(["dispatch", "which"], sort=False)):
        look = style.look(index)
        axes.plot(rows["batch"], rows["peak_kib"], **look, label=f"{dispatch}, {which}: peak")
        faint = {**look, "linestyle": style.DOTTED, "markerfacecolor": "none", "linewidth": 1}
        axes.plot(rows["batch"], rows["current_kib"], **faint, label=f"{dispatch}, {which}: current")
    sizes_and_room(axes, own["batch"], "KiB per expert (lower is better)")
    most = own["dropped_percent"].max()
    drops = f"up to {most:.0f} % of choices" if most else "nothing"
    style.note(axes, f"static drops {drops}", (0.98, 0.02), "axes fraction", (0, 2), "right")


def waste_panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw measured against predicted waste of every configuration, the published models named."""
    axes.set_title(f"{readable(name)}\nrows computed per row asked for", fontsize=style.SMALL)
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
