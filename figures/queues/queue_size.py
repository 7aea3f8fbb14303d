"""Throughput and latency against queue size B: executed (points), simulated (lines), theory (dotted) on one axis."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.queue_size_panels import latency_panel, plain_rows, throughput_panel
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import flow, legend_below
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "queue_size"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set throughput in closed loops, and the median latency under Poisson arrivals."""
    whole, plain = tables.read(NAME), plain_rows(tables.rows(NAME))
    tables.rows(f"{NAME}_tradeoff")  # drawn in the supplement; its holes and digest belong to the claim
    sets = list(dict.fromkeys(whole.get("set", []))) or ["no set"]
    cells = [cell for name in sets for cell in cells_of(name, plain)]
    figure, panels = flow(len(cells), 2, 2.3, 0.8)
    for axes, (name, arrivals) in zip(panels, cells, strict=True):
        own = plain[plain["set"] == name] if "set" in plain else plain
        if own.empty or "arrivals" not in own:
            axes.set_title(readable(name))
            style.hole(axes, tables.missing(NAME, name))
        else:
            panel(axes, name, own, arrivals, tables.holes_of(name))
    empty = [axes for axes in figure.axes if not axes.axison]
    if empty:
        empty[0].legend(handles=source_legend(), loc="center")
    else:
        legend_below(figure, source_legend())
    style.headline(figure, gain(tables.numbers(NAME)))
    return figure


def cells_of(name: str, plain: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the panels of a set, (set, arrivals): closed loops always, Poisson arrivals where they were served."""
    served = "arrivals" in plain and ((plain["set"] == name) & (plain["arrivals"] == "poisson")).any()
    return [(name, "closed"), *([(name, "poisson")] if served else [])]


def gain(numbers: dict) -> str:
    """Return the claim: how many times the throughput of the smallest B the largest one has, set by set."""
    said = [
        f"{found['gain_over_smallest']:.0f} times ({name})"
        for name, found in numbers.items()
        if isinstance(found, dict) and found.get("gain_over_smallest")
    ]
    return f"The best queue size B serves {', '.join(said)} as many passes per second as B = 1" if said else ""


def source_legend() -> list[Line2D]:
    """Return what points, lines, dots and crosses mean, for the whole figure."""
    dark = {"color": style.DARK}
    return [
        Line2D([], [], **dark, marker="o", linestyle="none", label="executed (of two runs both, else 95 %)"),
        Line2D([], [], **dark, label="simulated"),
        Line2D([], [], **dark, **style.THEORY, label="theory"),
        Line2D([], [], **dark, marker="x", linestyle="none", label="above the frame: cannot keep up"),
    ]


def panel(axes: Axes, name: str, rows: pd.DataFrame, arrivals: str, holes: list[str]) -> None:
    """Draw the throughput of closed loops or the latency under Poisson arrivals, and name the first holes of it."""
    own, sizes = rows[rows["arrivals"] == arrivals], sorted(rows["queue_size"].dropna().astype(int).unique())
    if arrivals == "closed":
        throughput_panel(axes, readable(name), own, sizes)
    else:
        latency_panel(axes, readable(name), own, sizes, "latency_p50_ms")
    lines = [line for line in holes if ("load" in line) == (arrivals == "poisson")]
    if lines:
        style.hole(axes, lines, beside_data=True)
