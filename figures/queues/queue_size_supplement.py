"""What a larger queue size costs: the 95th percentile, latency against throughput, and batches that were not filled."""

from itertools import zip_longest

import numpy as np
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.queue_size_panels import (
    forced_panel,
    latency_panel,
    plain_rows,
    tradeoff_panel,
)
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import legend_below, panels
from moe_replay.figures.drawing.table_files import TableFiles

TABLE = "queue_size"
LIGHT_LOAD = 0.5  # below it nearly every pass waits for its batch to fill


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a row per set with Poisson arrivals; p95, latency against throughput, unfilled batches."""
    plain, trade = plain_rows(tables.rows(TABLE)), tables.rows(f"{TABLE}_tradeoff")
    sets = list(dict.fromkeys(plain.loc[plain["arrivals"] == "poisson", "set"])) if "arrivals" in plain else []
    figure, grid = panels(max(1, len(sets)), 3, 2.5)
    for (tail, middle, right), name in zip(grid, sets, strict=False):
        rows = plain[plain["set"] == name]
        sizes = sorted(rows["queue_size"].dropna().astype(int).unique())
        called = readable(name)
        latency_panel(tail, called, rows[rows["arrivals"] == "poisson"], sizes, "latency_p95_ms")
        tradeoff_panel(middle, called, trade[trade["set"] == name] if "set" in trade else trade)
        forced_panel(right, called, rows[rows["arrivals"] == "closed"], sizes)
        tail.get_legend().remove()  # it is the whole figure's
    if sets:
        legend_below(figure, *series_legend(grid[0]), 3)
    else:
        style.hole(grid[0][0], tables.missing(TABLE))
    style.headline(figure, price(tables.numbers(TABLE)))
    return figure


def series_legend(row: np.ndarray) -> tuple[list, list[str]]:
    """Return marks and names of all panels: the first load has the look of the first N, and so on."""
    loads, numbers = (axes.get_legend_handles_labels() for axes in (row[0], row[2]))
    marks = max(loads[0], numbers[0], key=len)
    names = [" / ".join(each) for each in zip_longest(loads[1], numbers[1], fillvalue="")]
    return marks, [name.strip(" /") for name in names]


def price(numbers: dict) -> str:
    """Return the claim: what a doubling of B gains and costs at a middling load, of the first set that tells."""
    for name, found in numbers.items():
        for load, each in (found.get("latency") or {}).items():
            below = (each or {}).get("below")
            if below and float(load) > LIGHT_LOAD:
                return (
                    f"At load {load} a doubling of B gains {below['throughput_gain_percent_per_doubling']:.0f} % "
                    f"throughput for {below['latency_p50_ratio_per_doubling']:.1f} times the median latency ({name})"
                )
    return ""
