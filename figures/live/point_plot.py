"""The plot of the first screen: every configuration that was tried, throughput against latency, and the front."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bokeh.layouts import column
from bokeh.models import (
    Column,
    ColumnDataSource,
    CustomJS,
    DataTable,
    HoverTool,
    LabelSet,
    TableColumn,
    TapTool,
    Whisker,
)

from moe_replay.figures.live.page_style import BLUE, GREY, ORANGE, RED, WIDTH, number, plot, whenever
from moe_replay.figures.live.point_history import Point, front
from moe_replay.simulate.answers.trace_facts import TraceFacts

TIMES = {
    "latency_p95_ms": "p95 of a pass, ms", "latency_p50_ms": "median of a pass, ms",
    "latency_p99_ms": "p99 of a pass, ms",
    "request_p95_ms": "p95 of a whole sequence, ms", "request_p50_ms": "median of a whole sequence, ms",
    "ttft_p95_ms": "p95 of TTFT (time to first token), ms", "ttft_p50_ms": "median of TTFT, ms",
    "tpot_p95_ms": "p95 of TPOT (time per output token), ms", "tpot_p50_ms": "median of TPOT, ms",
}  # fmt: skip
OF_TOKENS = ("ttft_", "tpot_")
GAIN = "throughput_per_s"
SHAPES = {"quick": "circle", "exact": "square", "unsteady": "x"}
COLUMNS = (
    "cost", "gain", "cost_low", "cost_high", "gain_low", "gain_high", "kind", "shape", "fill", "line", "alpha", "words",
    "status", "of", "name", "shown_cost", "shown_gain",
)  # fmt: skip
TABLE_ROWS = 150  # pixels


class PointPlot:
    """Draws points; `chosen` is called with the number of a point on which somebody clicks."""

    def __init__(self, facts: TraceFacts, chosen: Callable[[int], None]) -> None:
        self.facts = facts
        self.points = ColumnDataSource({name: [] for name in COLUMNS})
        self.front = ColumnDataSource({"cost": [], "gain": []})
        self.current = ColumnDataSource({"cost": [], "gain": []}, name="ring")
        self.figure = plot(
            "Up and to the left is better", x_axis_type="log", y_axis_label="throughput, passes/s",
            x_axis_label=TIMES["latency_p95_ms"],
        )  # fmt: skip
        self.draw()
        self.chosen = chosen
        whenever(self.points.selected, "indices", self.clicked)

    def clicked(self) -> None:
        """Say which point was chosen, and forget it: the same one can be clicked again after the sliders moved."""
        selected = self.points.selected
        if selected.indices:
            place, selected.indices = selected.indices[0], []
            self.chosen(place)

    def draw(self) -> None:
        """Put everything into the figure once; later only data change."""
        self.draw_front()
        for base, low, high, way in (
            ("cost", "gain_low", "gain_high", "height"),
            ("gain", "cost_low", "cost_high", "width"),
        ):
            whisker = Whisker(
                base=base, lower=low, upper=high, source=self.points, dimension=way, line_color=GREY, line_alpha=0.6
            )
            whisker.upper_head.size = whisker.lower_head.size = 5
            self.figure.add_layout(whisker)
        glyphs = self.figure.scatter(
            "cost", "gain", source=self.points, marker="shape", size=10, fill_color="fill", line_color="line",
            fill_alpha="alpha", line_alpha="alpha", line_width=1.5, nonselection_fill_alpha="alpha",
            nonselection_line_alpha="alpha",
        )  # fmt: skip
        labels = LabelSet(
            x="cost", y="gain", text="name", source=self.points, x_offset=8, y_offset=-14, text_font_size="11px",
            text_color=GREY,
        )  # fmt: skip
        self.figure.add_layout(labels)
        self.figure.scatter(
            "cost", "gain", source=self.current, marker="circle", size=22, fill_color=None, line_color=RED,
            line_width=2.5, legend_label="what the sliders say",
        )  # fmt: skip
        said = [
            ("", "@words"),
            ("throughput", "@shown_gain passes/s"),
            ("latency", "@shown_cost ms"),
            ("", "@status, sequences simulated: @of"),
        ]
        self.figure.add_tools(HoverTool(tooltips=said, renderers=[glyphs]), TapTool(renderers=[glyphs]))
        self.figure.add_layout(self.figure.legend[0], "above")
        self.figure.legend[0].orientation = "horizontal"
        self.figure.y_range.start = 0
        self.figure.x_range.range_padding = 0.15  # room for names

    def draw_front(self) -> None:
        """Put the front into the figure: a line, and rings, since a single point that beats all makes no line."""
        given = {"source": self.front, "legend_label": "front: none is better"}
        self.figure.line("cost", "gain", color=ORANGE, width=2, **given)
        self.figure.scatter("cost", "gain", size=15, fill_color=None, line_color=ORANGE, **given)

    def show(self, points: Sequence[Point], current: Point | None, latency: str) -> None:
        """Draw these points, the front among those that are like the current one, and a ring around that."""
        rows = [self.row(point, latency, is_rival(point, current)) for point in points]
        self.points.data = {name: [row[name] for row in rows] for name in COLUMNS}
        rivals = [
            (row["cost"], row["gain"]) if row["status"] == "ok" and is_rival(point, current) else (math.nan, math.nan)
            for point, row in zip(points, rows, strict=True)
        ]
        best = front(rivals)
        self.front.data = {"cost": [rivals[i][0] for i in best], "gain": [rivals[i][1] for i in best]}
        here = [] if current is None else [current]
        self.current.data = {"cost": [p.value(latency) for p in here], "gain": [p.value(GAIN) for p in here]}
        self.figure.xaxis.axis_label = TIMES[latency]

    def row(self, point: Point, latency: str, rival: bool) -> dict:
        """Return the columns of one point; what has no steady state is a cross at the values of its whole run."""
        steady = point.status == "ok"
        kind = ("quick" if point.quick else "exact") if steady else "unsteady"
        certain = kind == "exact"  # a quick answer's interval would be of one run's parts, and cover everything
        return {
            "cost": point.value(latency), "gain": point.value(GAIN) if point.answers else math.nan,
            **{f"cost_{end}": point.value(f"{latency}_{end}") if certain else math.nan for end in ("low", "high")},
            **{f"gain_{end}": point.value(f"{GAIN}_{end}") if certain else math.nan for end in ("low", "high")},
            "kind": kind, "shape": SHAPES[kind], "fill": BLUE if kind == "exact" else "white",
            "line": BLUE if steady else RED, "alpha": 0.95 if rival else 0.25, "words": point.choice.said(self.facts),
            "status": point.status, "of": simulated(point), "name": point.choice.short,
            "shown_cost": number(point.value(latency)),
            "shown_gain": number(point.value(GAIN)),
        }  # fmt: skip

    @property
    def layout(self) -> Column:
        """The figure, and every point as a row of a table; a click on either chooses it."""
        widths = {"words": 350, "shown_gain": 65, "shown_cost": 60, "status": 60, "of": 205}
        titles = ("configuration", "passes/s", "ms", "status", "sequences simulated")
        columns = [
            TableColumn(field=name, title=title, width=width, sortable=False)
            for (name, width), title in zip(widths.items(), titles, strict=True)
        ]
        table = DataTable(
            source=self.points, columns=columns, width=WIDTH, height=TABLE_ROWS, index_position=None, reorderable=False
        )
        # Bokeh draws a table anew when its number of rows changes, not when their values do.
        self.points.js_on_change("data", CustomJS(args={"view": table.view}, code="view.change.emit()"))
        return column(self.figure, table)


def simulated(point: Point) -> str:
    """Return how much of the trace was served, in words."""
    if not point.answers:
        return "not simulated"
    part, seeds = point.answers[0].part, len(point.answers)
    of = f"all {part.of:,}" if part.is_whole else f"{part.sequences:,} of {part.of:,}"
    return f"{of}, {seeds} seed{'s' if seeds > 1 else ''}"


def is_rival(point: Point, current: Point | None) -> bool:
    """Whether two points may be compared on one front: as many experts a token, and as many devices.

    A smaller k answers otherwise and more devices cost more, so that neither is better for being quicker.
    """
    if current is None:
        return True
    return (point.choice.k, point.choice.devices) == (current.choice.k, current.choice.devices)
