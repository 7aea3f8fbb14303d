"""Panels of sets: a row of them, one for each set that a table holds, and what a trace of a set is called."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.table_files import TableFiles


def panel_per_set(
    tables: TableFiles, name: str, measured: str, height: float,
    panel: Callable[[Axes, str, pd.DataFrame], object],
) -> Figure:  # fmt: skip
    """Return a figure with one panel of `height` inches per set of table `name`, drawn by `panel(axes, set, its rows)`.

    A table without the column `measured` holds nothing to draw: the figure is then one hole that says what is missing.
    """
    rows = tables.rows(name)
    sets = list(dict.fromkeys(rows["set"])) if measured in rows else []
    count = max(1, len(sets))
    figure, grid = plt.subplots(1, count, figsize=(style.PAGE, height + 0.4), layout="constrained", squeeze=False)
    for axes, shown in zip(grid[0], sets, strict=False):
        panel(axes, shown, rows[rows["set"] == shown])
    if not sets:
        style.hole(grid[0][0], tables.missing(name))
    return figure


def grid_of(count: int, columns: int, height: float, **shared: object) -> tuple[Figure, list[Axes]]:
    """Return a figure of a page's width and `count` panels of `height` inches in it (at least one), row by row."""
    columns = min(columns, max(1, count))
    rows = -(-max(1, count) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(style.PAGE, height * rows + 0.4), layout="constrained", squeeze=False, **shared
    )
    for axes in grid.flat[max(1, count) :]:
        axes.axis("off")
    return figure, list(grid.flat[: max(1, count)])


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Explain below the figure, once, what the marks of all panels mean: they are those of `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.2)


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
    figure, panels = grid_of(len(traces), 3, 2.1, sharey=True)
    for at, (axes, (names, own)) in enumerate(zip(panels, traces, strict=False)):
        panel(axes, trace_name(*names), own)
        axes.set_ylabel("" if at % 3 else label)
    if traces:
        legend_below(figure, panels[0], columns)
    else:
        style.hole(panels[0], missing())
    return figure
