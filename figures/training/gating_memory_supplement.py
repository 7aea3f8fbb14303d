"""What static capacity wastes: memory per expert in every view, and computed rows per row asked for."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.batch_scales import PUBLISHED, batch_scale
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import flow, legend_below
from moe_replay.figures.drawing.table_files import TableFiles

TABLE = "gating_memory"
MOST_VIEWS = 4  # with a panel of waste for each of two sets they make six


def draw(tables: TableFiles) -> Figure:
    """Return the figure: memory per expert against the batch, a panel per set and view; waste, a panel per set."""
    rows, experts = tables.rows(TABLE), tables.rows(f"{TABLE}_experts")
    views = list(experts.groupby(["set", "view"], sort=False))[:MOST_VIEWS] if "view" in experts else []
    sets = list(rows.groupby("set", sort=False)) if "waste_measured" in rows and len(rows) else []
    figure, panels = flow(len(views) + len(sets), 2, 2.3, 0.9)
    for axes, ((name, view), own) in zip(panels, views, strict=False):
        expert_panel(axes, name, view, own)
    for axes, (name, own) in zip(panels[len(views) :], sets, strict=False):
        waste_panel(axes, name, own)
    if views:
        legend_below(
            figure,
            *panels[0].get_legend_handles_labels(),
            3,
            "Lower is better. Full: at the peak; hollow, dotted: current.",
        )
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
    axes.set_title(f"{readable(name)}: {view}", fontsize=style.SMALL)
    for index, ((dispatch, which), rows) in enumerate(own.groupby(["dispatch", "which"], sort=False)):
        look = style.look(index)
        axes.plot(rows["batch"], rows["peak_kib"], **look, label=f"{dispatch}, {which}")
        faint = {**look, "linestyle": style.DOTTED, "markerfacecolor": "none", "linewidth": 1}
        axes.plot(rows["batch"], rows["current_kib"], **faint, label=f"_{dispatch}, {which}: current")
    batch_scale(axes, own["batch"], "KiB per expert")
    most = own["dropped_percent"].max()
    drops = f"up to {most:.0f} % of choices" if most else "nothing"
    style.note(axes, f"static drops {drops}", (0.98, 0.02), "axes fraction", (0, 2), "right")


def waste_panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw measured against predicted waste of every configuration, the published models named."""
    axes.set_title(f"{readable(name)}: rows computed per row asked for", fontsize=style.SMALL)
    look = {**style.look(0), "linestyle": "none", "markerfacecolor": "none"}
    axes.plot(rows["waste_predicted"], rows["waste_measured"], **look)
    ends = rows["waste_predicted"].min(), rows["waste_predicted"].max()
    axes.plot(ends, ends, color=style.DARK, linestyle=style.DOTTED)
    published = rows[rows["like"].isin(PUBLISHED)] if rows["like"].notna().any() else rows.iloc[:0]
    for row in published.drop_duplicates("like").to_dict("records"):
        text = f"{PUBLISHED[row['like']]}: {row['waste_predicted']:g}"
        style.note(axes, text, (row["waste_predicted"], row["waste_measured"]), offset=(-6, -3), ha="right")
    axes.set(xscale="log", yscale="log", xlabel="predicted", ylabel="measured")
    for axis in (axes.xaxis, axes.yaxis):
        style.log_axis(axis)
    style.note(axes, "dotted: as predicted", (1, 0), "axes fraction", (-3, 3), "right")
