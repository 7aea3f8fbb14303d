"""Panels of sets: a row of them, one for each set that a table holds, and what a trace of a set is called."""

from __future__ import annotations

from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.table_files import TableFiles


def panel_per_set(
    tables: TableFiles, name: str, measured: str, size: tuple[float, float],
    panel: Callable[[Axes, str, pd.DataFrame], object],
) -> Figure:  # fmt: skip
    """Return a figure with one panel of `size` inches per set of table `name`, drawn by `panel(axes, set, its rows)`.

    A table without the column `measured` holds nothing to draw: the figure is then one hole that says what is missing.
    """
    rows = tables.rows(name)
    sets = list(dict.fromkeys(rows["set"])) if measured in rows else []
    count, (width, height) = max(1, len(sets)), size
    figure, grid = plt.subplots(1, count, figsize=(width * count, height), layout="constrained", squeeze=False)
    for axes, shown in zip(grid[0], sets, strict=False):
        panel(axes, shown, rows[rows["set"] == shown])
    if not sets:
        style.hole(grid[0][0], tables.missing(name))
    style.footer(figure, tables.footer())
    return figure


def trace_name(set_name: str, trace: str) -> str:
    """Return what a trace is called among those of several sets; one that was given by itself is its own set."""
    return trace if set_name == trace else f"{set_name}: {trace}"
