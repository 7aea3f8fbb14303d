"""What does running with a part of the experts cost? Quality against memory, and latency."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import flow, legend_below
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
LOST = {"bits_per_byte": "bits per byte", "accuracy": "of accuracy"}


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set its quality against memory, then per set the latency of executed runs."""
    quality, latency = tables.rows(NAME), tables.rows(LATENCY)
    sets = list(dict.fromkeys(quality["set"])) if "loss" in quality else []
    timed = list(dict.fromkeys(latency["set"])) if "executed_mean_ms" in latency else []
    figure, panels = flow(len(sets) + len(timed), 2, 2.2, 0.9)
    for axes, name in zip(panels, sets, strict=False):
        quality_panel(axes, name, quality[quality["set"] == name])
    for axes, name in zip(panels[len(sets) :], timed, strict=False):
        latency_panel(axes, name, latency[latency["set"] == name])
    for axes in panels[: len(sets)][-1:]:  # its methods are those of all
        axes.set_ylim(top=1.25 * axes.get_ylim()[1])
        axes.legend(loc="upper right", borderaxespad=0.1)
    marks = [axes.get_legend_handles_labels() for axes in panels[len(sets) :]]
    named = {label: mark for handles, labels in marks for mark, label in zip(handles, labels, strict=True)}
    legend_below(figure, list(named.values()), list(named))
    if not sets:
        style.hole(panels[0], tables.missing(NAME))
    style.headline(figure, saved(tables.numbers(NAME), quality))
    return figure


def saved(numbers: dict, quality: pd.DataFrame) -> str:
    """Return the claim: what masking to half of the experts saves and loses, of the set that loses most."""
    found = [(each["loss"], name, each) for name, each in numbers.items() if "memory_saved" in each]
    if not found:
        return ""
    loss, name, each = max(found, key=lambda one: one[0])
    unit = LOST[quality.loc[quality["set"] == name, "measure"].iloc[0]]
    return (
        f"{each['slots']} resident experts per layer save {each['memory_saved']:.0%} of the memory "
        f"and lose {loss:.2g} {unit} ({name})"
    )


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
            fmt="*", color=style.DARK, markersize=7, capsize=2,
        )  # fmt: skip
    axes.axhline(0, color=style.MIDDLE, linewidth=0.8)
    axes.set_title(f"{readable(name)}: quality, masked gating")
    axes.set(
        xlabel="weights on the device, % of the model", ylabel=f"{UNITS[rows['measure'].iloc[0]]}\n(lower is better)"
    )


def latency_panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw the mean time of a pass at batch 1 against slots: executed marks, the simulation's crosses beside them."""
    alone = rows[rows["in_flight"] == 1] if "in_flight" in rows else rows
    if alone.empty:
        style.absent(axes, f"{readable(name)}: no run at batch 1 was executed")
        return
    for index, (miss, kind, label) in enumerate(WAYS):
        own = alone[alone["miss"] == miss]
        own = own[own["period"].notna()] if kind == "period" else own[own["period"].isna() & (own["prefetch"] == kind)]
        own = own[own["cache"].isin(("lru", "importance"))].sort_values("slots")
        if own.empty:
            continue
        look = style.look(index)
        axes.errorbar(
            own["slots"], own["executed_mean_ms"], own["executed_mean_half_ms"], label=label, capsize=2, **look
        )  # fmt: skip
        if "simulated_mean_ms" in own:
            axes.plot(own["slots"], own["simulated_mean_ms"], "x", color=look["color"], markersize=5)
    axes.axhline(
        alone["resident_mean_ms"].iloc[0], label="all experts resident", color=style.DARK, linestyle=style.DOTTED
    )
    axes.plot([], [], "x", color=style.MIDDLE, markersize=5, label="simulated")
    axes.set_title(f"{readable(name)}: latency at batch 1, executed")
    axes.set(xlabel="expert slots per layer", ylabel="mean ms per pass\n(lower is better)", ylim=(0, None))
