"""Draws charts with bokeh: a reader points at them and zooms, and a click on a name hides its line."""

import numpy as np
from bokeh.models import (
    ColorBar,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    LinearScale,
    LogColorMapper,
    LogTicker,
    NumeralTickFormatter,
    Range1d,
    Span,
)
from bokeh.palettes import RdBu11, Viridis256
from bokeh.plotting import figure

from moe_replay.figures.charts.chart import POINTS, REFERENCE, Bars, Chart, Drawing, HeatMap, Series, distinct

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#9A7B00", "#3A8FC2")  # Okabe and Ito's, dark enough on white
MARKERS = ("circle", "square", "triangle", "diamond", "inverted_triangle", "hex")
DASHES = ("solid", "dashed", "dashdot", "dotdash", "solid", "dashed")
OF_REFERENCES = ("dotted", "dashed", "dashdot")
DARK = "#222222"
TOOLS = "pan,box_zoom,wheel_zoom,reset,save"
HEIGHT, PER_BAR = 330, 24  # pixels
NAMES_OF_MODELS = ("id", "root_id")  # in bokeh's JSON
MARKS = "marks"  # the range of y from 0 to 1 in which crosses are on the frame


def interactive(chart: Drawing, name: str) -> figure:
    """Return a bokeh figure of a chart under a name of its own."""
    drawn = {Chart: lines, Bars: bars, HeatMap: heat}[type(chart)](chart)
    drawn.name = name
    drawn.toolbar.logo = None
    drawn.toolbar.autohide = True
    drawn.title.text_font_size = "13px"
    drawn.xaxis.axis_label_text_font_style = drawn.yaxis.axis_label_text_font_style = "normal"
    if drawn.legend:
        legend = drawn.legend[0]
        legend.click_policy = "hide"
        legend.ncols = 3
        legend.label_text_font_size = "11px"
        legend.border_line_color = None
        drawn.add_layout(legend, "below")
    return drawn


def renumbered(item: object, known: dict[str, str]) -> object:
    """Return JSON of a chart with its models numbered from 0, so that the same chart gives the same bytes.

    bokeh goes on counting in a process. `known` is {former name: new one}, empty at first.
    """
    if isinstance(item, list | tuple):
        return [renumbered(each, known) for each in item]
    if not isinstance(item, dict):
        return item
    return {
        name: known.setdefault(value, f"p{len(known)}") if name in NAMES_OF_MODELS and isinstance(value, str)
        else renumbered(value, known) for name, value in item.items()
    }  # fmt: skip


def blank(chart: Drawing, **given: object) -> figure:
    """Return an empty figure that fills its place on the page."""
    given = {"height": HEIGHT, "tools": TOOLS, **given}
    return figure(title=chart.title, sizing_mode="stretch_width", **given)


def lines(chart: Chart) -> figure:
    """Return a figure of series."""
    scale = {"x_range": list(chart.categories)} if chart.categories else {}
    scale |= {"x_axis_type": "log"} if chart.x_log and not chart.categories else {}
    scale |= {"y_axis_type": "log"} if chart.y_log else {}
    drawn = blank(chart, x_axis_label=chart.x_label, y_axis_label=chart.y_label, **scale)
    drawn.extra_y_ranges, drawn.extra_y_scales = {MARKS: Range1d(0, 1)}, {MARKS: LinearScale()}
    drawn.yaxis.formatter = NumeralTickFormatter(format="0,0.[000]")
    if not chart.categories:
        drawn.xaxis.formatter = NumeralTickFormatter(format="0,0.[000]")
    for axis, is_log in ((drawn.xaxis, chart.x_log and not chart.categories), (drawn.yaxis, chart.y_log)):
        if is_log:
            axis.ticker = LogTicker(mantissas=[1, 2, 5])
    if chart.ticks:
        drawn.xaxis.ticker = FixedTicker(ticks=chart.ticks)
    references = [each for each in chart.series if each.form == REFERENCE]
    others = [each for each in chart.series if each.form != REFERENCE]
    for number, series in enumerate(references):
        level(drawn, series, number)
    for number, series in enumerate(others):
        measured(drawn, series, number, chart)
    drawn.y_range.renderers = [each for each in drawn.renderers if each.y_range_name != MARKS]
    if not chart.y_log and any(len(each.y) for each in chart.series):
        drawn.y_range.start = min([0, *(value for each in chart.series for value in each.y if value == value)])
    if len(chart.series) < 2:
        drawn.legend.visible = False
    words = [("", "@of"), (chart.x_label or "setting", "@x"), (chart.y_label, "@y{0,0.[000]}")]
    words += [("95 %", "@low{0,0.[000]} to @high{0,0.[000]}"), ("why", "@why")]
    drawn.add_tools(HoverTool(tooltips=words))
    return drawn


def level(drawn: figure, series: Series, number: int) -> None:
    """Draw what others are held against."""
    source = ColumnDataSource({"x": list(series.x), "y": list(series.y), "of": [series.name] * len(series.x)})
    dash = OF_REFERENCES[number % len(OF_REFERENCES)]
    drawn.line("x", "y", source=source, color=DARK, line_dash=dash, line_width=1.5, legend_label=series.name or "all")


def measured(drawn: figure, series: Series, number: int, chart: Chart) -> None:
    """Draw values with their intervals, hollow ones hollow, and on the frame a cross where there is no value."""
    turn = number + number // len(COLOURS)
    colour, marker = COLOURS[number % len(COLOURS)], MARKERS[turn % len(MARKERS)]
    many = len(series.x)
    source = ColumnDataSource({
        "x": list(series.x), "y": list(series.y), "of": [series.name] * many, "why": [""] * many,
        "low": list(series.low) or [np.nan] * many, "high": list(series.high) or [np.nan] * many,
        "fill": ["#ffffff" if hollow else colour for hollow in series.hollow] or [colour] * many,
    })  # fmt: skip
    label = {"legend_label": series.name or chart.y_label.partition(" (")[0]}
    if series.form != POINTS:
        dash = DASHES[turn % len(DASHES)]
        drawn.line("x", "y", source=source, color=colour, line_dash=dash, line_width=1.6, **label)
    if len(series.low):
        drawn.segment("x", "low", "x", "high", source=source, color=colour, **label)
    drawn.scatter("x", "y", source=source, marker=marker, size=7, line_color=colour, fill_color="fill", **label)
    if series.crossed:
        height = 0.98 - 0.04 * number * min(1, 8 / len(chart.series))
        at, why = [each for each, _ in series.crossed], [each for _, each in series.crossed]
        source = ColumnDataSource({"x": at, "mark": [height] * len(at), "of": [series.name] * len(at), "why": why})
        look = {"marker": "x", "size": 9, "color": colour, "line_width": 2}
        drawn.scatter("x", "mark", source=source, y_range_name=MARKS, **look, **label)


def bars(chart: Bars) -> figure:
    """Return a figure of bars across, the first category on top."""
    names = distinct(list(chart.categories))
    drawn = blank(chart, height=110 + PER_BAR * len(names), y_range=names[::-1], x_axis_label=chart.y_label)
    left = np.zeros(len(names))
    for number, (name, values) in enumerate(chart.parts.items()):
        right = left + np.nan_to_num(np.asarray(values, float))
        columns = {"y": names, "left": left, "right": right, "value": list(values), "of": [name] * len(names)}
        colour = COLOURS[number % len(COLOURS)]
        drawn.hbar("y", 0.7, "right", "left", source=ColumnDataSource(columns), color=colour, legend_label=name)
        left = right
    if chart.reference:
        drawn.add_layout(Span(location=chart.reference[0], dimension="height", line_dash="dotted", line_color=DARK))
        drawn.title.text += f" (dotted: {chart.reference[1]}, {chart.reference[0]:.4g})"
    if len(chart.parts) < 2:
        drawn.legend.visible = False
    drawn.add_tools(HoverTool(tooltips=[("", "@y"), ("", "@of"), (chart.y_label, "@value{0,0.[000]}")]))
    return drawn


def heat(chart: HeatMap) -> figure:
    """Return a figure of a heat map; with a centre, as many times above it as below it look as strong."""
    values = np.asarray(chart.values, np.float32)
    if chart.centre:
        colours = LogColorMapper(palette=RdBu11, low=chart.centre / 4, high=chart.centre * 4)
    else:
        colours = LinearColorMapper(palette=Viridis256, low=float(np.nanmin(values)), high=float(np.nanmax(values)))
    height, width = values.shape
    tall = min(700, 140 + max(8, 200 // height) * height)
    labels = {"x_axis_label": chart.x_label, "y_axis_label": chart.y_label}
    drawn = blank(chart, height=tall, x_range=(-0.5, width - 0.5), y_range=(height - 0.5, -0.5), **labels)
    drawn.image([values], x=-0.5, y=-0.5, dw=width, dh=height, color_mapper=colours)
    drawn.grid.visible = False
    for axis, names in ((drawn.xaxis, chart.columns), (drawn.yaxis, chart.rows)):
        step = max(1, len(names) // 16)
        axis.ticker = FixedTicker(ticks=list(range(0, len(names), step)))
        axis.major_label_overrides = {place: str(names[place]) for place in range(0, len(names), step)}
    drawn.add_layout(ColorBar(color_mapper=colours, title=chart.value_label, width=12), "right")
    drawn.add_tools(HoverTool(tooltips=[(chart.value_label, "@image{0.[000]}")]))
    return drawn
