"""Which policy misses least step by step? Misses against LRU's where a step asks for each of its experts once."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.policy_looks import label, look
from moe_replay.figures.drawing.set_panels import panels_of_traces
from moe_replay.figures.drawing.table_files import TableFiles

TABLE = "miss_ratio"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a panel per trace, every policy's misses over LRU's at a few numbers of slots."""
    rows = tables.rows(TABLE)
    steps = rows[rows["mode"] == "group"] if "miss_ratio" in rows else rows.iloc[:0]
    said = "misses, % more than LRU's\n(lower is better)"
    figure = panels_of_traces(steps, panel, said, lambda: tables.missing(TABLE), columns=3)
    won = [found["lifo_best_at"] for found in tables.numbers(TABLE).values() if "lifo_best_at" in found]
    if won:
        best = len([slots for slots in won if slots])
        style.headline(figure, f"Step by step LIFO misses least in {best} of {len(won)} traces: those of wide steps")
    return figure


def panel(axes: Axes, trace: str, rows: pd.DataFrame) -> None:
    """Draw how many more misses than LRU each policy has."""
    for policy, own in rows.groupby("policy", sort=False):
        axes.plot(own["slots"], own["over_lru_percent"], label=label(policy), **look(policy))
    axes.set_title(f"{trace}\n{rows['experts_per_step'].iloc[0]:.0f} experts per layer and step")
    axes.set_xticks(sorted(rows["slots"].unique()))
    axes.set_xlabel(f"expert slots per layer, of {rows['experts'].iloc[0]:.0f}")
