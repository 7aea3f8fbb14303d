"""The sheet a figure is printed on: a page, 7 inches wide, or a column, 3.3 inches, with one panel below another.

Nothing is scaled: text has the same 8 points in both. Figures lay their panels out by `panels` and `flow`, and say
them row by row; on a column the same panels follow each other downwards.
"""

from collections.abc import Sequence
from itertools import pairwise
from textwrap import fill

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.traces.errors import InputError

WIDTHS = {"column": 3.3, "page": 7.0}  # inches
COLUMN, PAGE = WIDTHS.values()
TALLEST = 9.4  # inches: what a printed page has room for
ABOVE = 0.4  # inches of a figure for its title
SMALL_LETTERS = 17.5  # of small text in an inch
LEGEND_LETTERS = 20  # the same of legends, whose longest lines are seldom in all columns


def named_width(text: str) -> str:
    """Return the name of a width that was asked for by its name or in inches (3.3, 7, 3.3in); InputError otherwise."""
    inches = text.lower().removesuffix("in").strip()
    for name, width in WIDTHS.items():
        if inches in (name, f"{width:g}", f"{width:.1f}"):
            return name
    allowed = ", ".join(f"{name} ({width:g} inches)" for name, width in WIDTHS.items())
    raise InputError(f"--width {text}: a figure is as wide as a column or a page of print; allowed: {allowed}")


def width() -> float:
    """Return how many inches wide figures are drawn now: `style.apply_style` has set it."""
    return matplotlib.rcParams["figure.figsize"][0]


def is_column() -> bool:
    """Say whether figures are drawn for a column: their panels then lie one below another."""
    return width() <= COLUMN


def panels(
    rows: int, columns: int, height: float, extra: float = ABOVE, *, share_y: str = "", widths: Sequence[float] = (),
    heights: Sequence[float] = (), stacked: Sequence[float] = (),
) -> tuple[Figure, np.ndarray]:  # fmt: skip
    """Return a figure and its panels as an array of rows and columns, each `height` inches high, with `extra` for all.

    `heights` are those of the rows in units of `height`. `share_y` is `row`, `col` or `all`. On a column the panels
    of a row follow each other downwards, all lower where they would not fit a printed page. With `stacked`, their
    heights then (those of a row's panels, or of all), left ends are not aligned: each row's on a page, each panel's on
    a column.
    """
    relative = list(heights) or [1.0] * rows
    if is_column():
        relative = (list(stacked) * rows)[: rows * columns] or [each for each in relative for _ in range(columns)]
    tall = min(height * sum(relative), TALLEST - extra)
    figure = plt.figure(figsize=(width(), tall + extra), layout="constrained")
    if stacked:
        across = 1 if is_column() else columns
        ratios = list(widths) if widths and across > 1 else None
        parts = figure.subfigures(len(relative), 1, height_ratios=relative, squeeze=False)[:, 0]
        made = [part.subplots(1, across, sharey=share_y == "row", width_ratios=ratios, squeeze=False) for part in parts]
        return figure, np.array([axes for row in made for axes in row[0]], object).reshape(rows, columns)
    shape = (len(relative), 1) if is_column() else (rows, columns)
    ratios = {"width_ratios": list(widths)} if widths and not is_column() else {}
    grid = figure.add_gridspec(*shape, height_ratios=relative, **ratios)
    found = np.empty((rows, columns), object)
    for place in range(rows * columns):
        row, column = divmod(place, columns)
        first = {"row": (row, 0), "col": (0, column), "all": (0, 0)}.get(share_y, (row, column))
        axes = figure.add_subplot(grid[divmod(place, shape[1])], sharey=found[first])
        if found[first] is not None and share_y in ("row", "all") and not is_column():
            axes.tick_params(labelleft=column == 0)
        found[row, column] = axes
    return figure, found


def beside(name: str, title: str) -> str:
    """Return the title of a panel that lies on a page beside one that names the set; on a column it names it too."""
    return f"{name}\n{title}" if is_column() else title


def flow(count: int, columns: int, height: float, extra: float = ABOVE, share_y: str = "") -> tuple[Figure, list[Axes]]:
    """Return a figure and `count` panels of it (at least one), row by row; places that are left over are empty."""
    count = max(1, count)
    columns = 1 if is_column() else min(columns, count)
    figure, grid = panels(-(-count // columns), columns, height, extra, share_y=share_y)
    for axes in grid.flat[count:]:
        axes.axis("off")
    return figure, list(grid.flat[:count])


def legend_below(
    figure: Figure, handles: list, labels: list[str] | None = None, most: int = 4, said: str = ""
) -> None:  # fmt: skip
    """Explain below the figure, once, what marks mean, in as many columns as have room, at most `most`.

    `said` is written above the marks: how to read the figure.
    """
    labels = labels or [handle.get_label() for handle in handles]
    if handles:
        fitting = [each for each in range(1, most + 1) if legend_letters(labels, each) <= width() * LEGEND_LETTERS]
        columns = max(fitting, default=1)
        size = matplotlib.rcParams["legend.fontsize"]
        figure.legend(
            handles, labels, loc="outside lower left", ncols=columns, columnspacing=1.2, alignment="left",
            title=fill(said, int(width() * SMALL_LETTERS)) or None, title_fontsize=size,
        )  # fmt: skip


def legend_letters(labels: list[str], columns: int) -> int:
    """Return how many letters wide a legend is, which fills one column after the other, the first ones longer."""
    rows, longer = divmod(len(labels), columns)
    wide, at = 0, 0
    for column in range(columns):
        own = labels[at : at + rows + (column < longer)]
        at += len(own)
        wide += max(map(len, own), default=0) + 6  # the mark and the space around it
    return wide


def plain_once(axes: list[Axes]) -> None:
    """Keep, of panels below each other that name their x axis alike, the last one's name."""
    for above, below in pairwise(axes):
        if above.get_xlabel() == below.get_xlabel():
            above.set_xlabel("")
