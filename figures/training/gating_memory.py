"""What does static capacity cost beside dynamic gating: memory per expert and in all, wasted rows, time?"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.batch_scales import PUBLISHED, batch_scale
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import beside, legend_below, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "gating_memory"
DISPATCHES = ("static", "gathered", "dynamic")
FILLINGS = ("full", "none", "left", "top", "right", "bottom")  # of markers: whose sizes
VIEWED = ("CSk/E", 1.2)  # the capacity at which a layer shape is shown


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set the peak of the whole layer and the time of a batch, static against dynamic."""
    rows = tables.read(NAME)
    tables.rows(f"{NAME}_experts")  # drawn in the supplement; its holes and digest belong to the claim
    sets = list(dict.fromkeys(rows.get("set", []))) or ["no set"]
    figure, grid = panels(len(sets), 2, 2.8)
    for (left, right), name in zip(grid, sets, strict=True):
        own = rows[(rows["set"] == name) & (rows["status"] == "ok")] if "batch" in rows else rows.iloc[:0]
        if own.empty:
            left.set_title(readable(name))
            style.hole(left, tables.missing(NAME, name))
            right.axis("off")
            continue
        shown = series(own)
        peak_panel(left, name, shown)
        time_panel(right, name, shown)
    legend_below(figure, *legend(rows))
    style.headline(figure, never_more(tables.numbers(NAME)))
    return figure


def never_more(numbers: dict) -> str:
    """Return the claim: how often dynamic dispatch needs at most static's memory where nothing is dropped."""
    said = [
        f"{found['never_more_without_drops']} of {found['without_drops']} ({name})"
        for name, found in numbers.items()
        if isinstance(found, dict) and "without_drops" in found and "never_more_without_drops" in found
    ]
    told = f"Where nothing is dropped dynamic dispatch needs at most static's memory: {', '.join(said)}"
    return told if said else ""


def series(own: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of published models' ratios, and of layer shapes at one capacity; `series` says what they are."""
    if not own["like"].notna().any():
        return own.iloc[:0].assign(series=[])
    names = own["like"].map(PUBLISHED)
    at_capacity = (own["convention"] == VIEWED[0]) & (own["capacity_factor"] == VIEWED[1])
    of_layer = at_capacity & own["like"].notna() & (own["like"] != "") & names.isna()
    return own.assign(series=names.where(~of_layer, "layer of " + own["like"].astype(str))).dropna(subset=["series"])


def peak_panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw the layer's peak against the batch for the published models' ratios."""
    axes.set_title(f"{readable(name)}: peak of the whole layer")
    for look, dispatch, own in by_dispatch(rows):
        axes.plot(own["batch"], own[f"{dispatch}_peak_bytes"] / 2**20, **look)
    batch_scale(axes, rows["batch"], "MiB at the peak\n(lower is better)")


def time_panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw the time per batch, median and quartiles, against the batch."""
    axes.set_title(beside(readable(name), "time per batch, median and quartiles"))
    for look, dispatch, own in by_dispatch(rows):
        median = own[f"{dispatch}_median_ms"]
        bars = [median - own[f"{dispatch}_lower_quartile_ms"], own[f"{dispatch}_upper_quartile_ms"] - median]
        axes.errorbar(own["batch"], median, bars, **look, capsize=2)
    batch_scale(axes, rows["batch"], "ms per batch\n(lower is better)")


def names_of(rows: pd.DataFrame) -> list[str]:
    """Return whose sizes some rows have; published models' ratios first."""
    found = set(rows["series"])
    return [name for name in dict.fromkeys([*PUBLISHED.values(), *rows["series"]]) if name in found]


def by_dispatch(rows: pd.DataFrame) -> list[tuple[dict, str, pd.DataFrame]]:
    """Return (look, dispatch, its rows by batch) of every series: colours tell dispatches apart, fillings sizes."""
    found = []
    for at, name in enumerate(names_of(rows)):
        own = rows[rows["series"] == name].sort_values("batch")
        filling = {"fillstyle": FILLINGS[at % len(FILLINGS)], "markersize": 4.5}
        for index, dispatch in enumerate(DISPATCHES):
            found.append((style.look(index) | filling | {"label": f"{name}, {dispatch}"}, dispatch, own))
    return found


def legend(rows: pd.DataFrame) -> tuple[list[Line2D], list[str]]:
    """Return marks and names of the dispatches, and of the sizes; a filling means the first, second, .. of each set."""
    marks = {dispatch: style.look(index) for index, dispatch in enumerate(DISPATCHES)}
    if "batch" not in rows:
        return [], []
    for _, own in rows[rows["status"] == "ok"].groupby("set", sort=False):
        for at, name in enumerate(names_of(series(own))):
            filling = {"fillstyle": FILLINGS[at % len(FILLINGS)], "marker": "o", "linestyle": "none"}
            marks[name] = filling | {"color": style.DARK, "markersize": 4.5}
    return [Line2D([], [], **look) for look in marks.values()], list(marks)
