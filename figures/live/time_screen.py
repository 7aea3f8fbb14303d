"""Where does the time go? A pass's time as a waterfall of causes, and a stretch of the run behind each."""

from __future__ import annotations

from collections.abc import Callable

from bokeh.layouts import column
from bokeh.models import Button, ColumnDataSource, Div, FactorRange, HoverTool, LabelSet, Range1d, TabPanel, TapTool
from bokeh.plotting import figure

from moe_replay.figures.live import page_style as style
from moe_replay.figures.live import questions
from moe_replay.figures.live.answering_processes import Lanes
from moe_replay.figures.live.choice import Choice, timeline_commands
from moe_replay.figures.live.latest import Numbers, Question
from moe_replay.figures.live.page_inputs import PageInputs
from moe_replay.figures.live.page_style import number
from moe_replay.figures.live.stretch_plot import StretchPlot
from moe_replay.simulate.answers.time_answer import COMPUTE, QUEUEING, TimeAnswer

QUESTION = "Where does the time go?"
EXPLAINED = (
    "The mean time of a pass from its arrival to its end, for the settings of the first screen, cause by cause. Each "
    "bar is the difference of two simulated runs that differ by that cause alone. Click on one to see a stretch of the "
    "run."
)
# Short name on the axis, what it means, colour.
CAUSES = {
    COMPUTE: ("compute", "what a pass takes alone in the machine, all experts resident", style.BLUE),
    QUEUEING: ("queueing", "what other passes, and waiting for a batch to fill, add to that", style.ORANGE),
    "compulsory": ("unavoidable:\nfirst loads", "every expert has to come once", style.GREY),
    "capacity": ("unavoidable:\ntoo few slots", "what the best known use of these slots still misses", style.GREY),
    "policy": ("policy", "misses that a better cache policy would not have", style.GREEN),
    "bandwidth": ("link", "transfers wait for each other", style.PURPLE),
    "prefetching": ("prefetch,\nright and wrong", "what prefetches change by what they bring and evict", style.RED),
    "late_prefetch": ("prefetch,\nlate", "prefetches take the link, and come late", style.RED),
    "misses": ("misses", "what absent experts change: they are not loaded, so that it is not split", style.GREY),
}
FURTHER = (
    "These commands write the stretch as a file that https://ui.perfetto.dev opens: there one can zoom and search."
)
TOTAL = "whole"
HEADROOM = 1.15  # above the highest bar, for its number
COLUMNS = ("cause", "name", "bottom", "top", "ms", "shown", "meaning", "colour")


class TimeScreen:
    """The third screen; `chosen` says what the first one is set to."""

    def __init__(self, inputs: PageInputs, lanes: Lanes, chosen: Callable[[], Choice]) -> None:
        self.source, self.facts, self.chosen = inputs.source, inputs.facts, chosen
        self.study = inputs.study
        self.numbers = Numbers()
        self.lane = lanes.long(self.numbers)
        self.asked: Choice | None = None
        self.answer: TimeAnswer | None = None
        self.status, self.said = style.status_line(), Div(text="", width=style.WIDTH)
        self.whole = Button(label="Explain with the whole trace", width=220)
        self.whole.on_click(lambda: self.ask(None))
        self.bars = ColumnDataSource({name: [] for name in COLUMNS})
        self.figure = self.waterfall()
        self.stretch = StretchPlot()
        self.command = style.command_text()
        selected = self.bars.selected
        style.whenever(selected, "indices", lambda: self.clicked(selected.indices[0]) if selected.indices else None)

    def waterfall(self) -> figure:
        """Return the figure of the causes."""
        made = style.plot(
            "",
            x_range=FactorRange(),
            y_range=Range1d(0, 1),
            y_axis_label="ms of a pass's time",
            height=380,
            width=style.FULL_WIDTH,
            frame_align=False,  # else it is as narrow as the stretch beside its legend
            tools="reset,save",
        )
        bars = made.vbar(
            x="name", bottom="bottom", top="top", width=0.75, source=self.bars, fill_color="colour", line_color="white",
            nonselection_fill_alpha=0.5,
        )  # fmt: skip
        made.add_layout(LabelSet(x="name", y="top", text="shown", source=self.bars, text_align="center", y_offset=3,
                                 text_font_size="12px"))  # fmt: skip
        made.add_tools(
            HoverTool(tooltips=[("", "@meaning"), ("", "@ms{0.000} ms")], renderers=[bars]), TapTool(renderers=[bars])
        )
        return made

    @property
    def panel(self) -> TabPanel:
        """The screen as a tab."""
        further = Div(text=style.said(FURTHER), width=style.FULL_WIDTH)
        parts = [self.status, self.said, self.figure, self.whole, self.stretch.figure, further, self.command,
                 style.copy_button(self.command)]  # fmt: skip
        return TabPanel(child=column(style.heading(QUESTION, EXPLAINED), *parts), title=QUESTION)

    def start(self) -> None:
        """Explain what the first screen is set to, unless that was done."""
        if self.facts.no_costs:
            self.status.text = style.failed(self.facts.no_costs)
        elif self.chosen() != self.asked:
            self.ask(questions.QUICK)

    def ask(self, most: int | None) -> None:
        """Ask for the causes, of a part of the trace or of all of it."""
        if self.facts.no_costs:
            return
        self.asked = self.chosen()
        self.status.text = style.busy(f"simulating up to ten worlds of: {self.asked.said(self.facts)}")
        call = (questions.time, self.study, self.asked.axes(self.source.link), most)
        self.lane.ask(Question(call, self.show, self.numbers.next()))

    def show(self, answer: TimeAnswer | None, line: str) -> None:
        """Draw the causes."""
        if answer is None:
            self.status.text, self.said.text = style.failed(line), ""
            return
        self.answer, part = answer, answer.part
        self.status.text = style.busy("ready")
        of = f"all {part.of:,} sequences" if part.is_whole else f"the first {part.sequences:,} of {part.of:,} sequences"
        self.said.text = style.said(f"{self.asked.said(self.facts)}. Simulated: {of}, one seed. {answer.said}")
        rows = waterfall_rows(answer)
        self.figure.x_range.factors = [row["name"] for row in rows]
        ends = [row[end] for row in rows for end in ("bottom", "top")]
        self.figure.y_range.start, self.figure.y_range.end = HEADROOM * min(0.0, *ends), HEADROOM * max(ends)
        self.figure.title.text = f"A pass takes {number(answer.total_ms)} ms, {largest(answer)}"
        self.bars.data = {name: [row[name] for row in rows] for name in COLUMNS}
        self.bars.selected.indices = []
        self.clicked(0)

    def clicked(self, place: int) -> None:
        """Show the stretch of the run behind a bar."""
        cause = self.bars.data["cause"][place]
        if self.answer is None or cause == TOTAL:
            return
        name = CAUSES[cause][0]
        title = f"{' '.join(name.split())}: a stretch of the run in which it is large"
        stretch = self.answer.stretches[cause]
        self.stretch.show(stretch, title, self.asked.devices)
        self.command.text = timeline_commands(self.source, self.asked, self.answer, stretch)


def waterfall_rows(answer: TimeAnswer) -> list[dict]:
    """Return the bars: each begins where the one before ends, and the last is the whole."""
    rows, reached = [], 0.0
    for cause, ms in answer.causes_ms.items():
        name, meaning, colour = CAUSES[cause]
        rows.append({"cause": cause, "name": name, "bottom": reached, "top": reached + ms, "ms": ms, "meaning": meaning,
                     "shown": f"{number(ms, 3)} ms", "colour": colour})  # fmt: skip
        reached += ms
    whole = {"cause": TOTAL, "name": "a pass's time", "bottom": 0.0, "top": answer.total_ms, "ms": answer.total_ms,
             "meaning": "all of it", "shown": f"{number(answer.total_ms, 3)} ms", "colour": "#444444"}  # fmt: skip
    return [*rows, whole]


def largest(answer: TimeAnswer) -> str:
    """Return the largest cause in words."""
    cause = max(answer.causes_ms, key=lambda name: answer.causes_ms[name])
    share = answer.causes_ms[cause] / answer.total_ms if answer.total_ms else 0.0
    return f"{share:.0%} of it {' '.join(CAUSES[cause][0].split())}"
