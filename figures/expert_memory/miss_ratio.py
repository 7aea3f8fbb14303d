"""How often is an expert absent? Miss ratio against slots, one access after another and step by step."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_panels import trace_name
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "miss_ratio"
POLICIES = ("lru", "fifo", "lfu", "sieve", "lifo")  # each keeps its look in every panel
LABELS = {
    "lifo": "LIFO (Huang et al.)", "belady": "optimum (Belady), in hindsight",
    "belady-bypass": "optimum that may decline, in hindsight",
}  # fmt: skip


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a row per trace, both orders of access."""
    rows = tables.rows(NAME)
    pairs = list(rows.groupby(["set", "trace"], sort=False)) if "miss_ratio" in rows else []
    figure, grid = plt.subplots(
        max(1, len(pairs)), 2, figsize=(10, 3.6 * max(1, len(pairs))), layout="constrained", squeeze=False
    )
    for row, (names, own) in zip(grid, pairs, strict=False):
        flat_panel(row[0], trace_name(*names), own[own["mode"] == "flat"])
        step_panel(row[1], own[own["mode"] == "group"])
    if not pairs:
        for axes in grid[0]:
            style.hole(axes, tables.missing(NAME))
    style.footer(figure, tables.footer())
    return figure


def flat_panel(axes: Axes, trace: str, rows: pd.DataFrame) -> None:
    """Draw miss ratio against slots per layer, a line per policy, the optimum dotted."""
    for policy, own in rows.groupby("policy", sort=False):
        axes.plot(own["slots"], own["miss_ratio"], label=label(policy), markevery=4, **look(policy))
    axes.set_title(f"{trace}: every selection an access\nslots emptied: {', '.join(rows['emptied'].unique())}")
    axes.set(xlabel=f"expert slots per layer, of {rows['experts'].iloc[0]}", ylabel="misses per access", ylim=(0, 1))
    axes.legend()


def step_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw how many more misses than LRU each policy has, at a few numbers of slots."""
    for policy, own in rows.groupby("policy", sort=False):
        axes.plot(own["slots"], own["over_lru_percent"], label=label(policy), **look(policy))
    axes.set_title(f"by step: each of its {rows['experts_per_step'].iloc[0]:.0f} experts per layer once, ascending")
    axes.set_xticks(sorted(rows["slots"].unique()))
    axes.set(xlabel=f"expert slots per layer, of {rows['experts'].iloc[0]}", ylabel="misses, % more than LRU's")
    axes.legend()


def look(policy: str) -> dict:
    """Return the look of a policy's line."""
    if policy == "belady":
        return {"color": style.DARK, "marker": "", **style.THEORY}
    if policy == "belady-bypass":
        return {"color": style.DARK, "marker": "", "linestyle": "--", "linewidth": 1}
    return style.look(POLICIES.index(policy))


def label(policy: str) -> str:
    """Return the name of a policy."""
    return LABELS.get(policy, policy.upper())
