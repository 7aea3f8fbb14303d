"""Does accuracy grow linearly with the number of experts per token?"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "accuracy_vs_k"
SIGNIFICANT = 0.05


def draw(tables: TableFiles) -> Figure:
    """Return the figure: one row per set, one column per view; seeds, means with 95 % intervals, and the line."""
    means, seeds, fits = tables.read(NAME), tables.rows(f"{NAME}_seeds"), tables.rows(f"{NAME}_fit")
    sets = list(dict.fromkeys(means.get("set", []))) or ["no set"]
    views = list(dict.fromkeys(means["view"].dropna())) if "view" in means else []
    figure, grid = panels(len(sets), max(len(views), 1), 2.3, share_y="row")
    for row, name in zip(grid, sets, strict=True):
        for axes, view in zip(row, views or [""], strict=True):
            chosen = [of_view(table, name, view) for table in (means, seeds, fits)]
            heading(axes, name, title(chosen[0], view), chosen[2])
            panel(axes, *chosen[:2]) if len(chosen[0]) else style.hole(axes, tables.missing(NAME, name))
        row[0].set_ylabel("accuracy (%), higher is better")
    handles, labels = grid[0][0].get_legend_handles_labels()
    if handles:
        grid[0][0].legend(handles, labels, loc="lower right")
    style.headline(figure, bent(fits))
    return figure


def of_view(table: pd.DataFrame, name: str, view: str) -> pd.DataFrame:
    """Return the rows of one set and view."""
    return table[(table["set"] == name) & (table["view"] == view)] if "view" in table else table.iloc[:0]


def title(means: pd.DataFrame, view: str) -> str:
    """Return `trained at k`, or `trained at 4, evaluated at k`."""
    trained = means["trained_k"].dropna().unique() if len(means) else []
    return f"trained at {', '.join(f'{k:.0f}' for k in trained)}, {view}" if len(trained) else view


def heading(axes: Axes, name: str, view: str, fits: pd.DataFrame) -> None:
    """Write the set, the view and the test above the panel, where no data can lie under it."""
    lines = [f"{readable(name)}: {view}", *[words(fit) for fit in fits.to_dict("records")]]
    axes.set_title("\n".join(lines), fontsize=style.SMALL)


def panel(axes: Axes, means: pd.DataFrame, seeds: pd.DataFrame) -> None:
    """Draw one view: single seeds, mean with interval, and the fitted line."""
    axes.plot(
        seeds["k"],
        seeds["accuracy_percent"],
        linestyle="none",
        marker=".",
        markersize=4,
        color=style.MIDDLE,
        label="one seed",
    )
    for index, (_, rows) in enumerate(means.groupby("trained_k", dropna=False)):
        bars = [
            rows["accuracy_percent"] - rows["accuracy_percent_low"],
            rows["accuracy_percent_high"] - rows["accuracy_percent"],
        ]
        axes.errorbar(
            rows["k"], rows["accuracy_percent"], bars, **style.look(index), capsize=2.5, label="mean, 95 % interval"
        )
        axes.plot(rows["k"], rows["line_percent"], color=style.DARK, linestyle=style.DOTTED, label="straight line")
    axes.set_xticks(sorted(means["k"].unique()))
    axes.set_xlabel("experts per token k")


def words(fit: dict) -> str:
    """Return what one view shows; the test behind it is in the caption."""
    explained = f"the line explains {100 * fit['share_by_line']:.0f} %"
    return f"{explained}; k = {fit['enough_k']:.0f} is within 0.3 points of the best"


def bent(fits: pd.DataFrame) -> str:
    """Return the claim: how far a straight line goes in the view in which it explains most."""
    if "share_by_line" not in fits or fits.empty:
        return ""
    best = fits.sort_values("share_by_line").iloc[-1]
    clear = "does not grow linearly with k" if (fits["p"] < SIGNIFICANT).any() else "shows no departure from a line"
    return f"Accuracy {clear}: at best a straight line explains {best['share_by_line']:.0%} of it ({best['set']})"
