"""What should I set? Throughput against latency, as sliders move."""

from __future__ import annotations

from bokeh.layouts import column, row
from bokeh.models import Button, Div, Select, Spinner, TabPanel

from moe_replay.figures.live import page_style as style
from moe_replay.figures.live.answering_processes import Lanes
from moe_replay.figures.live.choice import CLOSED, NO_SEEDS, QUEUES, commands_of
from moe_replay.figures.live.latest import Numbers
from moe_replay.figures.live.page_inputs import PageInputs
from moe_replay.figures.live.page_style import number
from moe_replay.figures.live.point_asking import PointAsking, Search, loads, sizes
from moe_replay.figures.live.point_history import Point
from moe_replay.figures.live.point_plot import GAIN, OF_TOKENS, TIMES, PointPlot
from moe_replay.figures.live.settings_controls import MOST_IN_FLIGHT, SettingsControls
from moe_replay.simulate.answers.trace_facts import TraceFacts

LIMIT_MS = 300.0
NO_TOKENS = " (no TTFT and TPOT: nothing decodes)"
BEGINNING = "simulating; after an installation the first run compiles the engine, which takes about a minute"
QUESTION = "What should I set?"
EXPLAINED = (
    "Move a slider: the ring follows. Circles are quick answers of a part of the trace, squares exact ones of all of "
    "it with 95 % intervals, crosses runs without a steady state. Click on a point for its verdict and its command."
)


class SettingsScreen:
    """The first screen: quick answers while a slider moves, exact ones with intervals when it is let go."""

    def __init__(self, inputs: PageInputs, lanes: Lanes) -> None:
        source, facts = inputs.source, inputs.facts
        self.source, self.facts, self.current = source, facts, None
        numbers = Numbers()
        self.asking = PointAsking(
            inputs.study, source, lanes.quick(numbers), lanes.long(numbers), numbers, self.show, self.draw, self.tell,
            inputs.is_large,
        )  # fmt: skip
        self.controls = SettingsControls(facts, self.moved, self.released)
        self.plot = PointPlot(facts, self.clicked)
        shown = {name: said for name, said in TIMES.items() if facts.decodes or not name.startswith(OF_TOKENS)}
        self.latency = Select(
            title="Time" + NO_TOKENS * (not facts.decodes), value="latency_p95_ms",
            options=list(shown.items()), width=style.CONTROLS_WIDTH,
        )  # fmt: skip
        style.whenever(self.latency, "value", self.other_time)
        self.status, self.verdict = style.status_line(), Div(text="", width=style.WIDTH)
        self.command = style.command_text()
        self.limit = Spinner(title="", value=LIMIT_MS, low=0.001, step=10, width=style.CONTROLS_WIDTH)
        self.smallest, self.highest = Button(label="Smallest B", width=120), Button(label="Highest load", width=120)
        self.try_all = Button(label="Try every B with these settings", width=style.CONTROLS_WIDTH)
        self.smallest.on_click(self.find_smallest)
        self.highest.on_click(self.find_highest)
        self.other_time()
        self.try_all.on_click(lambda: self.asking.try_each(sizes(self.controls.choice)))

    @property
    def panel(self) -> TabPanel:
        """The screen as a tab."""
        limit = column(self.limit, row(self.smallest, self.highest))
        left = column(self.controls.layout, self.latency, self.try_all, limit, width=style.LEFT_WIDTH)
        answer = column(self.verdict, self.command, style.copy_button(self.command))
        right = column(self.status, self.plot.layout, answer)
        return TabPanel(child=column(style.heading(QUESTION, EXPLAINED), row(left, right)), title=QUESTION)

    def start(self) -> None:
        """Ask for the first points."""
        if self.facts.no_costs:
            self.status.text = style.failed(self.facts.no_costs)
            return
        self.status.text = style.busy(BEGINNING)
        self.asking.released(self.controls.choice)
        self.asking.try_each(sizes(self.controls.choice))

    def other_time(self) -> None:
        """Another time was chosen: it is drawn, said of the point, and what the limit is of."""
        self.limit.title = f"Limit of {self.time_said}, ms"
        if self.current is not None and self.current.answers:
            self.verdict.text = verdict(self.current, self.facts, self.latency.value)
        self.draw()

    @property
    def time_said(self) -> str:
        """The time on the axis, in words."""
        return TIMES[self.latency.value].removesuffix(", ms")

    def moved(self) -> None:
        """A slider moves."""
        if not self.facts.no_costs:
            self.asking.moved(self.controls.choice)

    def released(self) -> None:
        """A slider was let go, or a menu used."""
        if not self.facts.no_costs:
            self.asking.released(self.controls.choice)

    def clicked(self, place: int) -> None:
        """Somebody clicked on a point: show what it came to, and make it exact if it is not."""
        points = self.asking.history.in_order
        if place >= len(points):
            return
        point = points[place]
        self.controls.set(point.choice)
        if point.quick:
            self.asking.released(point.choice)
        self.show(point, "")

    def find_smallest(self) -> None:
        """Look for the smallest B with the latency that is allowed."""
        choice = self.controls.choice
        if choice.scheduler == QUEUES and not self.facts.no_costs:
            self.asking.find(Search(iter(sizes(choice)), self.meets, f"Smallest B with {self.limit_said}"))

    def find_highest(self) -> None:
        """Look for the highest rate, or the most sequences in flight, with the latency that is allowed."""
        choice = self.controls.choice
        if self.facts.no_costs:
            return
        if choice.arrivals in NO_SEEDS:
            self.tell("Arrivals as recorded have one load; `traces arrivals --speed` makes a trace with another.")
            return
        tried = loads(choice, min(MOST_IN_FLIGHT, self.facts.sequences), self.facts.capacity_per_s or 1.0)
        what = "Most sequences in flight" if choice.arrivals == CLOSED else "Highest rate"
        self.asking.find(Search(iter(tried), self.meets, f"{what} with {self.limit_said}"))

    @property
    def limit_said(self) -> str:
        """What is allowed, in words."""
        return f"{self.time_said} of at most {self.limit.value:g} ms"

    def meets(self, point: Point) -> bool:
        """Whether a point is in a steady state with the latency that is allowed."""
        return point.status == "ok" and point.value(self.latency.value) <= self.limit.value

    def show(self, point: Point, note: str) -> None:
        """Show what the sliders came to: a ring in the plot, the verdict and the command."""
        self.current = point
        self.status.text = style.failed(point.line) if point.line else style.busy(f"{note} " if note else "ready")
        self.verdict.text = verdict(point, self.facts, self.latency.value) if point.answers else ""
        self.command.text = ""
        if point.answers:
            first = point.answers[0]
            self.command.text = commands_of(self.source, first.axes, len(point.answers))
        self.draw()

    def tell(self, line: str) -> None:
        """Say how a search ended."""
        self.status.text = style.said(line)

    def draw(self) -> None:
        """Draw all points."""
        self.plot.show(self.asking.history.in_order, self.current, self.latency.value)


def verdict(point: Point, facts: TraceFacts, latency: str) -> str:
    """Return what one configuration came to, in two sentences."""
    row, part = point.row, point.answers[0].part
    of = f"all {part.of:,} sequences" if part.is_whole else f"the first {part.sequences:,} of {part.of:,} sequences"
    seeds = f", {len(point.answers)} seeds" if len(point.answers) > 1 else ", one seed"
    found = f"<b>{point.choice.said(facts)}</b>: {with_interval(row, GAIN)} passes/s"
    found += f" ({number(row['tokens_per_s'])} tokens/s)"
    found += f", {TIMES[latency].removesuffix(', ms')} {with_interval(row, latency)} ms"
    found += f", devices {row['utilisation']:.0%} busy." if row["utilisation"] == row["utilisation"] else "."
    found += f" Simulated: {of} ({part.selections:,} selections){seeds}."
    if point.status != "ok":
        found += f" <b>{point.status}</b>: {row['reason']}; values are of the whole run."
    if point.answers[0].said:
        found += f" {point.answers[0].said}."
    return found


def with_interval(row: dict, metric: str) -> str:
    """Return a value with the ends of its 95 % interval, where it has one."""
    low, high = (row.get(f"{metric}_{end}", float("nan")) for end in ("low", "high"))
    interval = f" ({number(low)} to {number(high)})" if low == low else ""
    return f"{number(row[metric])}{interval}"
