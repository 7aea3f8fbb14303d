"""What does running with a part of the experts cost? Quality, latency, and gate mass as a sign of lost quality."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "swap_tradeoff"
LATENCY = "swap_latency"
METHODS = ("swapmoe", "importance", "popularity", "magnitude", "random")
LABELS = {
    "swapmoe": "SwapMoE, chosen anew", "importance": "most important", "popularity": "most used (pruning)",
    "magnitude": "largest weights (pruning)", "random": "random",
}  # fmt: skip
WAYS = (("load", "none", "on demand, overlapped"), ("block", "none", "on demand, blocking"),
        ("load", "previous-token", "prefetch: previous token"), ("load", "co-activation", "prefetch: co-activation"),
        ("redirect", "none", "masked, residents fixed"), ("redirect", "period", "masked, chosen anew"),
        ("skip", "period", "skipped, chosen anew"))  # fmt: skip
UNITS = {"bits_per_byte": "loss of quality, bits per byte", "accuracy": "loss of accuracy"}


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a row per set; its quality, lost mass against it, and the latency of executed runs.

    Sets of random weights have no quality: their latencies share the last row, side by side.
    """
    quality, latency = tables.rows(NAME), tables.rows(LATENCY)
    sets = list(dict.fromkeys(quality["set"])) if "loss" in quality else []
    timed = dict.fromkeys(latency["set"]) if "executed_mean_ms" in latency else {}
    alone = [name for name in timed if name not in sets]
    above = max(1, len(sets))
    rows = above + -(-len(alone) // 3)
    figure, grid = plt.subplots(rows, 3, figsize=(15, 4.2 * rows), layout="constrained", squeeze=False)
    for axes in grid[above:].flat:
        axes.set_axis_off()
    for axes, name in zip(grid[above:].flat, alone, strict=False):
        axes.set_axis_on()
        latency_panel(axes, latency[latency["set"] == name])
        axes.set_title(f"{name}: latency at batch 1, executed")
    for row, name in zip(grid, sets, strict=False):
        own = quality[quality["set"] == name]
        quality_panel(row[0], name, own)
        mass_panel(row[1], own)
        times = latency[latency["set"] == name] if "executed_mean_ms" in latency else latency.iloc[:0]
        latency_panel(row[2], times)
    if not sets:
        for axes in grid[0]:
            style.hole(axes, tables.missing(NAME))
    style.footer(figure, tables.footer())
    return figure


def quality_panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw the loss of quality against resident memory; of SwapMoE the best period at each number of slots."""
    masked = rows[rows["miss"] == "redirect"]
    for index, method in enumerate(METHODS):
        own = masked[masked["method"] == method].sort_values(["slots", "loss"]).drop_duplicates("slots")
        axes.errorbar(
            100 * own["memory_share"], own["loss"], own["loss_half_width"], label=LABELS[method], capsize=2,
            **style.look(index),
        )  # fmt: skip
    dense = rows[rows["method"] == "dense"]
    if not dense.empty:
        axes.errorbar(
            100 * dense["memory_share"], dense["loss"], dense["loss_half_width"], label="dense model of its own",
            fmt="*", color=style.DARK, markersize=9, capsize=2,
        )  # fmt: skip
    axes.axhline(0, color=style.MIDDLE, linewidth=0.8)
    axes.set_title(f"{name}: masked gating")
    axes.set(xlabel="weights on the device, % of the model", ylabel=UNITS[rows["measure"].iloc[0]])
    axes.legend()


def mass_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the measured relation of lost gate mass to lost quality, for both handlings."""
    for index, miss in enumerate(("redirect", "skip")):
        own = rows[rows["miss"] == miss]
        look = {**style.look(index), "linestyle": "none"}
        axes.errorbar(own["lost_mass"], own["loss"], own["loss_half_width"], label=miss, capsize=2, **look)
    axes.set_title("what lost gate mass means: every way to choose")
    axes.set(xlabel="lost gate mass, share of what was selected", ylabel=UNITS[rows["measure"].iloc[0]])
    axes.legend()


def latency_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw the mean time of a pass at batch 1 against slots: executed marks, the simulation's crosses beside them."""
    alone = rows[rows["in_flight"] == 1] if "in_flight" in rows else rows
    if alone.empty:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "latency: not executed on this set", ha="center", color=style.MIDDLE)
        return
    index = 0
    for miss, kind, label in WAYS:
        own = alone[alone["miss"] == miss]
        own = own[own["period"].notna()] if kind == "period" else own[own["period"].isna() & (own["prefetch"] == kind)]
        own = own[own["cache"].isin(("lru", "importance"))].sort_values("slots")
        if own.empty:
            continue
        look, index = style.look(index), index + 1
        axes.errorbar(
            own["slots"], own["executed_mean_ms"], own["executed_mean_half_ms"], label=label, capsize=2, **look
        )  # fmt: skip
        if "simulated_mean_ms" in own:
            axes.plot(own["slots"], own["simulated_mean_ms"], "x", color=look["color"], markersize=8)
    axes.axhline(
        alone["resident_mean_ms"].iloc[0], label="all experts resident", color=style.DARK, linestyle=style.DOTTED
    )
    axes.plot([], [], "x", color=style.MIDDLE, markersize=8, label="simulated")
    axes.set_title("latency at batch 1, executed")
    axes.set(xlabel="expert slots per layer", ylabel="ms per pass, mean", ylim=(0, None))
    axes.set_ylim(top=1.5 * axes.get_ylim()[1])  # room for the legend
    axes.legend(ncols=2, loc="upper right", fontsize="small")
