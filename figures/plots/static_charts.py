"""Draws charts with matplotlib: one figure each, at the size at which it is printed."""

from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from moe_replay.figures.charts.chart import POINTS, REFERENCE, Bars, Chart, Drawing, HeatMap, Series
from moe_replay.figures.drawing.sheet import WIDTHS
from moe_replay.figures.drawing.style import COLOURS, DARK, DASHES, DOTTED, HATCHES, MIDDLE, apply_style, log_axis, look

HEIGHTS = {"column": 2.6, "page": 3.4}
FONT = 8  # points, in every width
LONGEST_NAME = 30  # letters of a bar's name in one line
LONGEST_LEGEND = 4  # lines of a legend inside the axes; a longer one goes below
ROOM = 0.15  # above the values, for crosses: share of the height


def draw_chart(chart: Drawing, width: str) -> Figure:
    """Return a figure of a chart; `width` is one of `WIDTHS`."""
    apply_style()
    plt.rcParams.update({"font.size": FONT})
    figure, axes = plt.subplots(figsize=(WIDTHS[width], height_of(chart, width)), layout="constrained")
    letters = int(WIDTHS[width] * 19)
    beside = max(map(len, chart.categories), default=0) if isinstance(chart, Bars) else 0  # names left of the axes
    room = letters - min(beside, LONGEST_NAME)
    axes.set_title(fill(chart.title, int(room * 0.85)))
    if isinstance(chart, Bars):
        axes.set_xlabel(fill(chart.y_label, int(room * 0.8)))
    {Chart: lines, Bars: bars, HeatMap: heat}[type(chart)](axes, chart)
    if chart.note:
        figure.supxlabel(fill(chart.note, letters), fontsize=FONT - 1, color=MIDDLE, x=0.01, ha="left")
    return figure


def height_of(chart: Drawing, width: str) -> float:
    """Return the height of a figure in inches; bars take a line each."""
    if isinstance(chart, Bars):
        return 1.2 + 0.22 * len(chart.categories)
    below = 0.16 * len(chart.series) if isinstance(chart, Chart) and len(chart.series) > LONGEST_LEGEND else 0
    return HEIGHTS[width] + below


def lines(axes: Axes, chart: Chart) -> None:
    """Draw the series of a chart."""
    place = {name: at for at, name in enumerate(chart.categories)}
    shade = 0
    for series in chart.series:
        x = [place.get(each, each) for each in series.x]
        if series.form == REFERENCE:
            references = [each.name for each in chart.series if each.form == REFERENCE]
            dash = (DOTTED, *DASHES[1:])[references.index(series.name) % len(DASHES)]
            axes.plot(x, series.y, color=DARK, linestyle=dash, linewidth=1.2, label=series.name or None, zorder=1.5)
            continue
        style = {**look(shade), "linestyle": "none"} if series.form == POINTS else look(shade)
        shade += 1
        measured(axes, series, x, style)
        crosses(axes, series, [place.get(at, at) for at, _ in series.crossed], style["color"], len(chart.series), shade)
    scales(axes, chart, place)
    legend(axes, chart)


def measured(axes: Axes, series: Series, x: list, style: dict) -> None:
    """Draw values with their intervals; those that are not of a measured window are hollow."""
    line = axes.plot(x, series.y, label=series.name or None, **{**style, "markersize": 4})[0]
    if len(series.low):
        below, above = np.subtract(series.y, series.low), np.subtract(series.high, series.y)
        axes.errorbar(x, series.y, np.maximum([below, above], 0), fmt="none", ecolor=style["color"], elinewidth=0.8,
                      capsize=2)  # fmt: skip
    if any(series.hollow):
        line.set_marker("none")
        for at, y, hollow in zip(x, series.y, series.hollow, strict=True):
            axes.plot([at], [y], color=style["color"], marker=style["marker"], markersize=4, linestyle="none",
                      markerfacecolor="white" if hollow else style["color"])  # fmt: skip


def crosses(axes: Axes, series: Series, x: list, colour: str, many: int, number: int) -> None:
    """Mark on the frame, a row per series, the x at which a series has no value."""
    if x:
        height = 1.0 - 0.035 * (number - 0.5) * min(1.0, 8 / many)
        axes.plot(x, [height] * len(x), color=colour, marker="x", markersize=4.5, linestyle="none", clip_on=False,
                  transform=axes.get_xaxis_transform(), zorder=5)  # fmt: skip


def scales(axes: Axes, chart: Chart, place: dict[str, int]) -> None:
    """Set the axes' scales, ticks and names. Values that lie apart little keep zero in sight."""
    axes.set(xlabel=chart.x_label, ylabel=fill(chart.y_label, 40))
    if place:
        axes.set_xticks(list(place.values()), list(place), rotation=30 if max(map(len, place)) > 8 else 0, ha="right"
                        if max(map(len, place)) > 8 else "center")  # fmt: skip
        axes.margins(x=0.1)
    elif chart.x_log:
        axes.set_xscale("log", base=2)
    if not place:
        if ticks := chart.ticks:
            axes.xaxis.set_major_locator(FixedLocator(ticks))
            axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    if chart.y_log:
        axes.set_yscale("log")
        log_axis(axes.yaxis)
    elif any(len(each.y) for each in chart.series):
        low, high = axes.get_ylim()
        axes.set_ylim(min(0, low), high if low < 0 else max(high, high + 0.04 * high))
    if any(len(each.crossed) for each in chart.series):  # room for them above the values
        low, high = axes.get_ylim()
        axes.set_ylim(top=high * (high / low) ** ROOM if chart.y_log else high + (high - low) * ROOM)


def legend(axes: Axes, chart: Chart) -> None:
    """Name the series: inside where they are few, else below the axes."""
    handles, names = axes.get_legend_handles_labels()
    if len(names) < 2 and not any(each.form == REFERENCE for each in chart.series):
        return
    if len(names) <= LONGEST_LEGEND:
        axes.legend(fontsize=FONT - 1)
    elif names:
        columns = 3 if max(map(len, names)) < 24 else 1
        axes.figure.legend(handles, names, fontsize=FONT - 1, ncols=columns, loc="outside lower left")


def bars(axes: Axes, chart: Bars) -> None:
    """Draw bars across, stacked from the left, the first category on top."""
    at = np.arange(len(chart.categories))[::-1]
    left = np.zeros(len(chart.categories))
    for number, (name, values) in enumerate(chart.parts.items()):
        hatch = HATCHES[number % len(HATCHES)] if len(chart.parts) > 1 else ""
        axes.barh(at, values, left=left, height=0.7, label=name, color=COLOURS[number % len(COLOURS)], hatch=hatch,
                  edgecolor="white", linewidth=0.4)  # fmt: skip
        left = left + np.nan_to_num(values)
    if chart.reference:
        axes.axvline(chart.reference[0], color=DARK, linestyle=DOTTED, linewidth=1.3, label=chart.reference[1])
    if len(chart.parts) == 1:
        for place, value in zip(at, left, strict=True):
            said = {"textcoords": "offset points", "va": "center", "fontsize": FONT - 1}
            axes.annotate(f"{value:,.4g}", (value, place), (2, 0), **said)
    axes.set_yticks(at, [fill(name, LONGEST_NAME) for name in chart.categories])
    axes.grid(False, axis="y")
    axes.margins(x=0.12)
    if len(chart.parts) > 1 or chart.reference:
        axes.figure.legend(fontsize=FONT - 1, loc="outside upper right", ncols=3)


def heat(axes: Axes, chart: HeatMap) -> None:
    """Draw a heat map; with a centre, as many times above it as below it look as strong."""
    values = np.asarray(chart.values, float)
    shown = np.log2(np.maximum(values / chart.centre, 1 / 16)) if chart.centre else values
    ends = {"vmin": -2, "vmax": 2} if chart.centre else {}
    colours = "RdBu_r" if chart.centre else "viridis"
    image = axes.imshow(shown, aspect="auto", cmap=colours, interpolation="nearest", **ends)
    bar = axes.figure.colorbar(image, ax=axes, label=chart.value_label, extend="both" if chart.centre else "neither")
    if chart.centre:
        bar.set_ticks([-2, -1, 0, 1, 2], labels=[f"{chart.centre * 2.0**power:g}" for power in (-2, -1, 0, 1, 2)])
    for axis, names in ((axes.xaxis, chart.columns), (axes.yaxis, chart.rows)):
        axis.set_major_locator(MaxNLocator(8, integer=True))
        axis.set_major_formatter(FuncFormatter(
            lambda at, _, names=names: str(names[int(at)]) if 0 <= at < len(names) and at == int(at) else ""
        ))  # fmt: skip
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
    axes.grid(False)
