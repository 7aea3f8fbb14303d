"""What did a budget buy? Loss of quality, memory and latency of plans, promised and measured; violations marked."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import beside, legend_below, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "swap_budget"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a row per set; loss, memory and latency against the memory budget."""
    rows = tables.rows(NAME)
    sets = list(dict.fromkeys(rows["set"])) if "loss" in rows else []
    count = max(1, len(sets))
    figure, grid = panels(count, 3, 2.7, 0.6)
    for row, name in zip(grid, sets, strict=False):
        own = rows[rows["set"] == name].copy()
        own["latency_budget"] = pd.to_numeric(own["latency_budget"], errors="coerce").fillna(np.inf)
        loss_panel(row[0], name, own)
        measured_panel(row[1], own, "memory_bytes", "memory_budget", 1e6, "MB on the device", "memory_kept")
        measured_panel(row[2], own, "latency_ms", "latency_budget", 1, "ms per pass, mean", "latency_kept")
        row[1].set_title(beside(readable(name), "memory (dotted: the budget)"))
        row[2].set_title(beside(readable(name), "latency (ring: a budget is broken)"))
    if not sets:
        for axes in grid[0]:
            style.hole(axes, tables.missing(NAME))
    else:
        legend_below(figure, *grid[0][0].get_legend_handles_labels(), 3)
        style.headline(figure, kept(tables.numbers(NAME)))
    return figure


def kept(numbers: dict) -> str:
    """Return the claim: how many plans kept both of their budgets when executed."""
    if "kept" not in numbers:
        return ""
    return (
        f"{numbers['kept']} of {numbers['plans']} plans kept both budgets when executed; measured latency was "
        f"{numbers['median_latency_error']:.1%} off what was promised (median)"
    )


def loss_panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw the measured loss with its interval, and the promise as a cross."""
    for index, (key, own) in enumerate(rows.groupby(["search", "latency_budget"], sort=False)):
        at = own["memory_budget"] / 1e6
        look = style.look(index)
        axes.errorbar(at, own["loss"], own["loss_half_width"], capsize=2, label=called(*key), **look)
        axes.plot(at, own["predicted_loss"], "x", color=look["color"], markersize=5)
    axes.plot([], [], "x", color=style.MIDDLE, markersize=5, label="promised")
    axes.set_title(f"{readable(name)}\nloss of quality")
    axes.set(
        xlabel="memory budget, MB",
        ylabel=("bits per byte" if is_text(rows) else "loss of accuracy") + " (lower is better)",
    )
    axes.set_xticks(sorted(set(rows["memory_budget"] / 1e6)))


def measured_panel(
    axes: Axes, rows: pd.DataFrame, column: str, budget: str, unit: float, label: str, kept: str
) -> None:  # fmt: skip
    """Draw what was used against the memory budget, budgets as lines, violations in an alarming colour."""
    for index, (key, own) in enumerate(rows.groupby(["search", "latency_budget"], sort=False)):
        look = style.look(index)
        axes.plot(own["memory_budget"] / 1e6, own[column] / unit, **look)
        if budget == "latency_budget" and np.isfinite(key[1]):
            axes.axhline(key[1], color=style.DARK, linestyle=style.DOTTED)
    broken = rows[~rows[kept].astype(bool)]
    if budget == "memory_budget":
        ends = np.array([rows[budget].min(), rows[budget].max()]) / unit
        axes.plot(ends, ends, color=style.DARK, linestyle=style.DOTTED)
    if not broken.empty:
        axes.plot(
            broken["memory_budget"] / 1e6, broken[column] / unit, "o", markersize=10, markerfacecolor="none",
            markeredgecolor=style.ALARM, markeredgewidth=1.2, label="budget broken",
        )  # fmt: skip
    axes.set(xlabel="memory budget, MB", ylabel=label)
    axes.set_xticks(sorted(set(rows["memory_budget"] / 1e6)))


def called(search: str, latency: float) -> str:
    """Return the name of a series."""
    return f"{search}, any latency" if np.isinf(latency) else f"{search}, at most {latency:g} ms"


def is_text(rows: pd.DataFrame) -> bool:
    """Say whether quality is that of text."""
    return rows["measure"].iloc[0] == "bits_per_byte"
