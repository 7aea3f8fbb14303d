"""Throughput and latency against queue size B: executed (points), simulated (lines), theory (dotted) on one axis."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.queue_size_panels import forced_panel, latency_panel, throughput_panel, tradeoff_panel
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "queue_size"
PANEL_INCHES = (4.2, 3.1)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set one row on the machine at saturation and one on latency, a panel per load.

    A set without Poisson arrivals has the first row alone.
    """
    table, trade = tables.rows(NAME), tables.rows(f"{NAME}_tradeoff")
    whole = tables.read(NAME)
    plain = table[(table["scheduler"] == "lockstep") | table["departures"].isna()] if "departures" in table else table
    sets = list(dict.fromkeys(whole.get("set", []))) or ["no set"]
    columns = max(3, plain["load"].nunique() if "load" in plain else 0)
    heights = [PANEL_INCHES[1] * rows_of(plain, name) for name in sets]
    figure = plt.figure(figsize=(PANEL_INCHES[0] * columns, sum(heights) + 0.3 * len(sets) + 0.6), layout="constrained")
    parts = figure.subfigures(len(sets) + 1, 1, height_ratios=[0.5, *heights], squeeze=False)[:, 0]
    parts[0].legend(handles=source_legend(), loc="center", ncols=5)
    for part, name in zip(parts[1:], sets, strict=True):
        part.suptitle(name, x=0.01, ha="left", fontweight="bold")
        grid = part.subplots(rows_of(plain, name), columns, squeeze=False)
        of_set = [rows[rows["set"] == name] if "set" in rows else rows for rows in (plain, trade)]
        drawable = not of_set[0].empty and "arrivals" in of_set[0]
        set_rows(grid, *of_set, tables.holes_of(name) if drawable else tables.missing(NAME, name))
    style.footer(parts[-1], tables.footer())
    return figure


def rows_of(plain: pd.DataFrame, name: str) -> int:
    """Return how many rows of panels a set has: one where it has closed loops alone."""
    own = plain[plain["set"] == name] if "set" in plain and "arrivals" in plain else plain.iloc[:0]
    return 1 if not own.empty and set(own["arrivals"].dropna()) == {"closed"} else 2


def source_legend() -> list[Line2D]:
    """Return what points, lines and dots mean, for the whole figure."""
    return [
        Line2D([], [], color=style.DARK, marker="o", linestyle="none", label="executed, 95 % interval"),
        Line2D([], [], color=style.DARK, label="simulated"),
        Line2D(
            [], [], color=style.DARK, linestyle=style.DOTTED, linewidth=1.8, label="theory (latency: no contention)"
        ),
        Line2D(
            [], [], color=style.MIDDLE, marker="x", linestyle="none", label="no steady state: arrivals exceed capacity"
        ),
    ]


def set_rows(grid: np.ndarray, rows: pd.DataFrame, trade: pd.DataFrame, holes: list[str]) -> None:
    """Draw the two rows of panels of one set."""
    if rows.empty or "arrivals" not in rows:
        style.hole(grid[0][0], holes)
        for axes in grid.flat[1:]:
            axes.axis("off")
        return
    closed, poisson = rows[rows["arrivals"] == "closed"], rows[rows["arrivals"] == "poisson"]
    sizes = sorted(rows["queue_size"].dropna().astype(int).unique())
    throughput_panel(grid[0][0], closed, sizes)
    forced_panel(grid[0][1], closed, sizes)
    tradeoff_panel(grid[0][2], trade)
    loads, below = sorted(poisson["load"].dropna().unique()), [axes for row in grid[1:] for axes in row]
    for axes, load in zip(below, loads, strict=False):
        if axes is not below[0]:
            axes.sharey(below[0])  # one scale, so that the price of load can be read across
        latency_panel(axes, poisson[poisson["load"] == load], sizes)
        axes.set_title(f"latency, Poisson arrivals, load {load:.1f}")
    for axes in [*grid[0][3:], *below[len(loads) :]]:
        axes.axis("off")
    name_holes(grid, holes)


def name_holes(grid: np.ndarray, holes: list[str]) -> None:
    """Write the first holes into the panel they concern: closed loop into throughput, the others into latency."""
    closed = [line for line in holes if "load" not in line]
    for axes, lines in ((grid[0][0], closed), (grid[-1][0], [line for line in holes if line not in closed])):
        if lines:
            style.hole(axes, lines, beside_data=True)
