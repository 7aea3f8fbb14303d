"""Panels of sets: a row of them, one for each set that a table holds, and what a trace of a set is called."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import ABOVE, flow, legend_below
from moe_replay.figures.drawing.table_files import TableFiles


def panel_per_set(
    tables: TableFiles, name: str, measured: str, height: float,
    panel: Callable[[Axes, str, pd.DataFrame], object], extra: float = ABOVE,
) -> Figure:  # fmt: skip
    """Return a figure with one panel of `height` inches per set of table `name`, drawn by `panel(axes, set, its rows)`.

    A table without the column `measured` holds nothing to draw: the figure is then one hole that says what is missing.
    """
    rows = tables.rows(name)
    sets = list(dict.fromkeys(rows["set"])) if measured in rows else []
    figure, panels = flow(len(sets), max(1, len(sets)), height, extra)
    for axes, shown in zip(panels, sets, strict=False):
        panel(axes, shown, rows[rows["set"] == shown])
    if not sets:
        style.hole(panels[0], tables.missing(name))
    return figure


def trace_name(set_name: str, trace: str) -> str:
    """Return what a trace is called among those of several sets; one that was given by itself is its own set."""
    return trace if set_name == trace else f"{readable(set_name)}: {trace.removeprefix('language-')}"


def panels_of_traces(
    rows: pd.DataFrame, panel: Callable[[Axes, str, pd.DataFrame], None], label: str, missing: Callable[[], list[str]],
    columns: int = 4,
) -> Figure:  # fmt: skip
    """Return a figure with a panel per trace, on one scale, drawn by `panel(axes, name, its rows)`, and one legend.

    `label` is said at the left; without rows `missing()` tells the holes. `columns` are those of the legend.
    """
    traces = list(rows.groupby(["set", "trace"], sort=False)) if len(rows) else []
    figure, panels = flow(len(traces), 3, 2.1, 0.8, share_y="all")
    for axes, (names, own) in zip(panels, traces, strict=False):
        panel(axes, trace_name(*names), own)
    if traces:
        figure.supylabel(label, fontsize=style.FONT)
        legend_below(figure, *panels[0].get_legend_handles_labels(), columns)
    else:
        style.hole(panels[0], missing())
    return figure
