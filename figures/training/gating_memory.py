"""What does static capacity cost beside dynamic gating: memory per expert and in all, wasted rows, time?"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.batch_scales import PUBLISHED, sizes_and_room
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "gating_memory"
DISPATCHES = ("static", "gathered", "dynamic")
VIEWED = ("CSk/E", 1.2)  # the capacity at which a layer shape is shown


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set the peak of the whole layer and the time of a batch, static against dynamic."""
    rows = tables.read(NAME)
    tables.rows(f"{NAME}_experts")  # drawn in the supplement; its holes and digest belong to the claim
    sets = list(dict.fromkeys(rows.get("set", []))) or ["no set"]
    figure, grid = plt.subplots(
        len(sets), 2, figsize=(style.PAGE, 2.8 * len(sets) + 0.4), layout="constrained", squeeze=False
    )
    for (left, right), name in zip(grid, sets, strict=True):
        own = rows[(rows["set"] == name) & (rows["status"] == "ok")] if "batch" in rows else rows.iloc[:0]
        if own.empty:
            left.set_title(readable(name))
            style.hole(left, tables.missing(NAME, name))
            right.axis("off")
            continue
        shown = series(own)
        peak_panel(left, name, shown)
        time_panel(right, shown)
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
    for index, (series_name, dispatch, own) in enumerate(by_dispatch(rows)):
        mib = own[f"{dispatch}_peak_bytes"] / 2**20
        axes.plot(own["batch"], mib, **style.look(index), label=f"{series_name}, {dispatch}")
    sizes_and_room(axes, rows["batch"], "MiB at the peak (lower is better)")


def time_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the time per batch, median and quartiles, against the batch."""
    axes.set_title("time per batch, median and quartiles")
    for index, (name, dispatch, own) in enumerate(by_dispatch(rows)):
        median = own[f"{dispatch}_median_ms"]
        bars = [median - own[f"{dispatch}_lower_quartile_ms"], own[f"{dispatch}_upper_quartile_ms"] - median]
        axes.errorbar(own["batch"], median, bars, **style.look(index), capsize=2, label=f"{name}, {dispatch}")
    sizes_and_room(axes, rows["batch"], "ms per batch (lower is better)")


def by_dispatch(rows: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """Return (whose sizes, dispatch, its rows by batch) of every series; published models' ratios first."""
    names = dict.fromkeys([*PUBLISHED.values(), *rows["series"]])
    return [
        (name, dispatch, rows[rows["series"] == name].sort_values("batch"))
        for name in names if (rows["series"] == name).any() for dispatch in DISPATCHES
    ]  # fmt: skip
