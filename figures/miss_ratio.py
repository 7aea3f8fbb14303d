"""How often is an expert absent? Miss ratio against slots, one access after another and step by step."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import style
from figures.table_files import TableFiles

NAME = "miss_ratio"
POLICIES = ("lru", "fifo", "lfu", "sieve", "lifo")  # each keeps its look in every panel
LABELS = {"lifo": "LIFO (Huang et al.)", "belady": "optimum (Belady)"}
TITLES = {"flat": "every selection an access", "group": "each expert once per step, ascending"}


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a row per trace, both orders of access."""
    rows = tables.rows(NAME)
    pairs = list(rows.groupby(["set", "trace"], sort=False)) if "miss_ratio" in rows else []
    figure, grid = plt.subplots(
        max(1, len(pairs)), 2, figsize=(10, 3.6 * max(1, len(pairs))), layout="constrained", squeeze=False
    )
    for row, ((_, trace), own) in zip(grid, pairs, strict=False):
        for axes, order in zip(row, TITLES, strict=True):
            panel(axes, trace, order, own[own["order"] == order])
    if not pairs:
        for axes in grid[0]:
            style.hole(axes, tables.holes)
    style.footer(figure, tables.footer())
    return figure


def panel(axes: Axes, trace: str, order: str, rows: pd.DataFrame) -> None:
    """Draw miss ratio against slots per layer, a line per policy, the optimum dotted."""
    for policy, own in rows.groupby("policy", sort=False):
        if policy == "belady":
            look = {"color": style.DARK, "marker": "", **style.THEORY}
        else:
            look = style.look(POLICIES.index(policy))
        label, every = LABELS.get(policy, policy.upper()), 4 if order == "flat" else 1
        axes.plot(own["slots"], own["miss_ratio"], label=label, markevery=every, **look)
    title = TITLES[order]
    if order == "group":
        title += f" ({rows['group'].iloc[0]:.1f} experts per layer)"
    axes.set_title(f"{trace}: {title}")
    axes.set(xlabel=f"expert slots per layer, of {rows['experts'].iloc[0]}", ylabel="misses per access", ylim=(0, 1))
    axes.legend()
