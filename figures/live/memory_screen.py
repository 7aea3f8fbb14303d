"""How much memory do I need? Misses of every policy against memory, and what a memory gives in tokens per second."""

from __future__ import annotations

from dataclasses import replace

from bokeh.layouts import column, row
from bokeh.models import Div, MultiChoice, Select, Slider, TabPanel

from moe_replay.figures.live import page_style as style
from moe_replay.figures.live import questions
from moe_replay.figures.live.answering_processes import Lanes
from moe_replay.figures.live.choice import LOCKSTEP, Choice, commands_of, miss_command
from moe_replay.figures.live.latest import Numbers, Question
from moe_replay.figures.live.miss_plot import MOST_LINES, MissPlot, at
from moe_replay.figures.live.page_inputs import PageInputs
from moe_replay.figures.live.page_style import number
from moe_replay.figures.live.point_asking import PointAsking
from moe_replay.figures.live.point_history import Point
from moe_replay.figures.live.settings_controls import CACHES, MASKED, MOST_IN_FLIGHT, slider_of
from moe_replay.simulate.answers.miss_answer import OPTIMUM, MissAnswer
from moe_replay.simulate.sweeps.axes import RESIDENT

QUESTION = "How much memory do I need?"
EXPLAINED = (
    "An expert that is not on the device has to be fetched: a miss. Drag the red line, or move the slider, to a "
    "memory: below the plot is what it gives in tokens per second. No policy, whatever it knows, gets into the grey."
)
NO_BYTES = "neither trace nor costs tell how many bytes an expert has; allowed: start the page with --expert-bytes N"
FIRST = ("lru", "lfu", "fifo")
NO_OPTIMA = tuple(name for name in CACHES if name not in ("none", "belady", OPTIMUM, "importance"))


class MemoryScreen:
    """The second screen: curves of the whole trace, and the time of the memory at which the line is."""

    def __init__(self, inputs: PageInputs, lanes: Lanes) -> None:
        self.inputs, self.source, self.facts = inputs, inputs.source, inputs.facts
        curve_numbers, numbers = Numbers(), Numbers()
        self.curve_numbers, self.numbers = curve_numbers, numbers
        self.curve_quick, self.curve_long = lanes.quick(curve_numbers), lanes.long(curve_numbers)
        self.asking = PointAsking(
            inputs.study,
            self.source,
            lanes.quick(numbers),
            lanes.long(numbers),
            numbers,
            self.show,
            self.read,
            self.tell,
            inputs.is_large,
        )
        self.curves: MissAnswer | None = None
        self.point: Point | None = None
        self.status, self.counted = style.status_line(), Div(text="", width=style.WIDTH)
        self.reading = Div(text="", width=style.WIDTH)
        self.command = style.command_text()
        if self.facts.expert_bytes is not None:
            self.plot = MissPlot(len(self.facts.layer_ids) * self.facts.expert_bytes, self.facts.experts)
            self.new_controls()

    def new_controls(self) -> None:
        """Make what can be moved."""
        wide = {"width": style.CONTROLS_WIDTH}
        facts, slot = self.facts, self.plot.step
        half = max(1, facts.experts // 2)
        self.memory = Slider(
            title=f"Memory for experts, {self.plot.unit}", start=slot, end=slot * facts.experts, step=slot,
            value=slot * half, format="0.000", **wide,
        )  # fmt: skip
        self.plot.line.location = self.memory.value
        self.policies = MultiChoice(
            title="Policies (those that learn do so on the first half)", value=list(FIRST), options=list(NO_OPTIMA),
            max_items=MOST_LINES, **wide,
        )  # fmt: skip
        self.k = Slider(
            title="Experts per token k", start=min(facts.ks), end=max(facts.ks), step=1, value=facts.used_k,
            disabled=len(facts.ks) < 2, **wide,
        )  # fmt: skip
        together = [("pass", "a prompt, or one decoded token"), ("step", "a recorded step: all that it served")]
        self.group = Select(title="What runs together in the curves", value="pass", options=together, **wide)
        self.cache = Select(title="Timed policy", value=FIRST[0], options=list(NO_OPTIMA), **wide)
        handlings = ["load", "block", "host", *(MASKED if facts.masked else ())]
        self.miss = Select(title="On a miss", value="load", options=handlings, **wide)
        most = min(MOST_IN_FLIGHT, facts.sequences)
        self.in_flight = slider_of("Sequences in flight (lockstep)", style.ladder(1, most), 8)
        for each in (self.policies, self.k, self.group):
            style.whenever(each, "value_throttled" if each is self.k else "value", self.ask_curves)
        style.whenever(self.memory, "value", self.dragged_slider)
        style.whenever(self.plot.line, "location", self.dragged_line)
        for each in (self.cache, self.miss, self.in_flight, self.k):
            style.whenever(each, "value", self.moved)

    @property
    def panel(self) -> TabPanel:
        """The screen as a tab."""
        if self.facts.expert_bytes is None:
            body = Div(text=style.failed(NO_BYTES), width=style.WIDTH)
            return TabPanel(child=column(style.heading(QUESTION, EXPLAINED), body), title=QUESTION)
        left = column(self.memory, self.policies, self.k, self.group, self.cache, self.miss, self.in_flight,
                      width=style.LEFT_WIDTH)  # fmt: skip
        right = column(self.status, self.plot.figure, self.counted, self.reading, self.command,
                       style.copy_button(self.command))  # fmt: skip
        return TabPanel(child=column(style.heading(QUESTION, EXPLAINED), row(left, right)), title=QUESTION)

    def start(self) -> None:
        """Ask for the first curves."""
        if self.facts.expert_bytes is not None:
            self.ask_curves()
            self.status.text = style.busy("simulating")
            self.moved()
            self.asking.try_each([replace(self.choice, cache=RESIDENT, slots=1, miss="load")])

    @property
    def slots(self) -> int:
        """How many experts of each layer the memory holds."""
        return min(self.facts.experts, max(1, round(self.memory.value / self.plot.step)))

    @property
    def choice(self) -> Choice:
        """The configuration that is timed: lockstep in a closed loop."""
        k = int(self.k.value)
        return Choice(
            scheduler=LOCKSTEP, in_flight=int(self.in_flight.value), k=None if k == self.facts.used_k else k,
            cache=self.cache.value, slots=self.slots, miss=self.miss.value,
        )  # fmt: skip

    def dragged_line(self) -> None:
        """The line was dragged: the slider follows, in whole slots."""
        slot = self.plot.step
        wanted = min(max(round(self.plot.line.location / slot), 1), self.facts.experts) * slot
        if abs(wanted - self.memory.value) > slot / 2:
            self.memory.value = wanted

    def dragged_slider(self) -> None:
        """The slider was moved: the line follows."""
        if abs(self.plot.line.location - self.memory.value) > self.plot.step / 2:
            self.plot.line.location = self.memory.value
        self.moved()

    def ask_curves(self) -> None:
        """Ask for the curves, of a part of the trace and then of all of it."""
        number, policies = self.curve_numbers.next(), tuple(self.policies.value)
        self.counted.text = style.busy("counting misses")

        def call(most: int | None) -> tuple:
            return questions.misses, self.asking.study, policies, int(self.k.value), self.group.value, most

        self.curve_quick.ask(Question(call(questions.QUICK), self.show_curves, number))
        if self.facts.selections > questions.QUICK:
            self.curve_long.ask(Question(call(None), self.show_curves, number))

    def show_curves(self, answer: MissAnswer | None, line: str) -> None:
        """Draw curves; those of a part do not replace those of the whole trace."""
        if answer is None:
            self.counted.text = style.failed(line)
            return
        self.curves = answer
        self.plot.show(answer)
        of = (
            f"the first {answer.sequences:,} of {answer.of:,}" if answer.sequences < answer.of else f"all {answer.of:,}"
        )
        self.counted.text = style.said(f"Counted: {of} sequences, {answer.accesses:,} accesses. {answer.said}")
        self.read()

    def moved(self) -> None:
        """Ask what the memory gives: quickly, and exactly once the answer has come and nothing has moved since."""
        if self.facts.no_costs:
            self.status.text = style.failed(self.facts.no_costs)
        else:
            self.asking.moved(self.choice)
        self.read()

    def show(self, point: Point, note: str) -> None:
        """Show what the memory gives."""
        self.point = point
        self.status.text = style.failed(point.line) if point.line else style.busy(note or "ready")
        if point.quick and not point.line and len(point.answers) == 1 and note == "a quick answer":
            self.asking.exactly(point.choice)
            resident = replace(point.choice, cache=RESIDENT, slots=1, miss="load")
            self.asking.try_each([resident])
        self.read()

    def tell(self, line: str) -> None:
        """Say something in the status line."""
        self.status.text = style.said(line)

    def read(self) -> None:
        """Write below the plot what the line says."""
        choice, facts = self.choice, self.facts
        said = (
            f"<b>{self.plot.size(self.slots):.4g} {self.plot.unit}</b> hold {self.slots} of {facts.experts} experts in "
            f"each of {len(facts.layer_ids)} layers."
        )
        if self.curves is not None and self.cache.value in self.curves.curves:
            mine, best = at(self.curves, self.cache.value, self.slots), at(self.curves, OPTIMUM, self.slots)
            said += f" {self.cache.value} misses {mine:.1%} of accesses, the optimum {best:.1%}."
        commands = [miss_command(self.source, [*self.policies.value, OPTIMUM], self.slots, int(self.k.value),
                                 self.group.value)]  # fmt: skip
        if self.point is not None and self.point.choice == choice and self.point.answers:
            said += timed(
                self.point, self.asking.history.points.get(replace(choice, cache=RESIDENT, slots=1, miss="load"))
            )
            said += self.lost(self.point)
            first = self.point.answers[0]
            commands.append(commands_of(self.source, first.axes, len(self.point.answers)))
        self.reading.text, self.command.text = said, "\n".join(commands)

    def lost(self, point: Point) -> str:
        """Return what is lost in quality."""
        if point.choice.miss not in MASKED:
            return " Nothing is lost in quality: an expert that is absent is fetched, or computed by the host."
        mass = point.answers[0].memory["lost_mass"]
        said = f" Lost: {mass:.2%} of the gate mass"
        relation = self.inputs.relation
        if relation is None:
            return said + "; what that costs in quality is not known here (start with --quality TABLE)."
        loss = relation.loss(point.choice.miss, mass)
        if loss != loss:
            return said + f"; no loss of {relation.measure} was measured for as much."
        return said + f"; as much cost {number(loss)} {relation.measure} where it was measured."


def timed(point: Point, resident: Point | None) -> str:
    """Return the tokens per second of a memory, beside those with all experts resident."""
    row, part = point.row, point.answers[0].part
    said = f" It serves <b>{number(row['tokens_per_s'])} tokens/s</b>"
    if row["throughput_per_s_low"] == row["throughput_per_s_low"]:
        half = (row["throughput_per_s_high"] - row["throughput_per_s_low"]) / 2 / row["throughput_per_s"]
        said += f" (95 % interval: {half:.1%} either way)"
    if resident is not None and resident.answers:
        whole = resident.row["tokens_per_s"]
        said += f", {row['tokens_per_s'] / whole:.0%} of the {number(whole)} with all experts resident"
    of = f"all {part.of:,} sequences" if part.is_whole else f"the first {part.sequences:,} of {part.of:,} sequences"
    said += f" ({of}, {len(point.answers)} seed{'s' if len(point.answers) > 1 else ''})."
    return said + ("" if point.status == "ok" else f" No steady state ({point.row['reason']}): of the whole run.")
