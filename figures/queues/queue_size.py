"""Throughput and latency against queue size B: executed (points), simulated (lines), theory (dotted) on one axis."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.queue_size_panels import latency_panel, plain_rows, throughput_panel
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "queue_size"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set throughput in closed loops, and the median latency under Poisson arrivals."""
    whole, plain = tables.read(NAME), plain_rows(tables.rows(NAME))
    tables.rows(f"{NAME}_tradeoff")  # drawn in the supplement; its holes and digest belong to the claim
    sets = list(dict.fromkeys(whole.get("set", []))) or ["no set"]
    figure, grid = plt.subplots(
        len(sets), 2, figsize=(style.PAGE, 2.4 * len(sets) + 0.6), layout="constrained", squeeze=False
    )
    for (left, right), name in zip(grid, sets, strict=True):
        own = plain[plain["set"] == name] if "set" in plain else plain
        drawable = not own.empty and "arrivals" in own
        set_row(left, right, own, tables.holes_of(name) if drawable else tables.missing(NAME, name))
        left.set_title(f"{readable(name)}: {left.get_title(loc='left')}")
    figure.legend(handles=source_legend(), loc="outside lower center", ncols=4, columnspacing=1)
    style.headline(figure, gain(tables.numbers(NAME)))
    return figure


def gain(numbers: dict) -> str:
    """Return the claim: how many times the throughput of the smallest B the largest one has, set by set."""
    said = [
        f"{found['gain_over_smallest']:.0f} times ({name})"
        for name, found in numbers.items()
        if isinstance(found, dict) and found.get("gain_over_smallest")
    ]
    return f"The largest B serves more than B = 1: {', '.join(said)}" if said else ""


def source_legend() -> list[Line2D]:
    """Return what points, lines, dots and crosses mean, for the whole figure."""
    dark = {"color": style.DARK}
    return [
        Line2D([], [], **dark, marker="o", linestyle="none", label="executed (bars: 95 %; none from 2 runs)"),
        Line2D([], [], **dark, label="simulated"),
        Line2D([], [], **dark, **style.THEORY, label="theory"),
        Line2D([], [], **dark, marker="x", linestyle="none", label="above the frame: cannot keep up"),
    ]


def set_row(left: Axes, right: Axes, rows: pd.DataFrame, holes: list[str]) -> None:
    """Draw the two panels of one set, and name its first holes in the panel that they concern."""
    if rows.empty or "arrivals" not in rows:
        style.hole(left, holes)
        right.axis("off")
        return
    closed, poisson = rows[rows["arrivals"] == "closed"], rows[rows["arrivals"] == "poisson"]
    sizes = sorted(rows["queue_size"].dropna().astype(int).unique())
    throughput_panel(left, closed, sizes)
    if poisson.empty:
        style.absent(right, "no Poisson arrivals were executed or simulated")
    else:
        latency_panel(right, poisson, sizes, "latency_p50_ms")
    of_closed = [line for line in holes if "load" not in line]
    for axes, lines in ((left, of_closed), (right, [line for line in holes if line not in of_closed])):
        if lines:
            style.hole(axes, lines, beside_data=True)
