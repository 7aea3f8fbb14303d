"""Is my routing skewed, and does it drift? Load by layer and over time beside controls, and of devices."""

from __future__ import annotations

import numpy as np
from bokeh.layouts import column, row
from bokeh.models import Column, ColumnDataSource, Div, FactorRange, HoverTool, Slider, TabPanel
from bokeh.transform import jitter

from moe_replay.figures.live import page_style as style
from moe_replay.figures.live import questions
from moe_replay.figures.live.answering_processes import Lanes
from moe_replay.figures.live.heat_maps import MAP_WIDTH, NARROW_WIDTH, MapPair, Scale
from moe_replay.figures.live.latest import Numbers, Question
from moe_replay.figures.live.page_inputs import PageInputs
from moe_replay.figures.live.questions import RoutingAnswer
from moe_replay.simulate.answers.device_answer import DeviceAnswer

QUESTION = "Is my routing skewed, and does it drift?"
EXPLAINED = (
    "Left is what was recorded, right the same with chance in its place: a stripe that the right map lacks is no "
    "accident. Skew makes devices wait for the one with the hottest experts; drift makes placements old."
)
MOST_DEVICES = 16
BOTH = 2 * MAP_WIDTH


class TraceMaps:
    """The maps of one trace: load by layer, and one layer's over time, each with a sentence."""

    def __init__(self, name: str, lanes: Lanes, scales: tuple[Scale, Scale], width: int) -> None:
        self.numbers = Numbers()
        self.lane = lanes.long(self.numbers)
        wide = {"width": 2 * width}
        self.name = Div(text=f"<h3 style='margin:8px 0 0'>{style.said(name)}</h3>", **wide)
        self.load_line, self.drift_line = Div(text="", **wide), Div(text="", **wide)
        self.load = MapPair(("Load, recorded", "Control: experts drawn at random"), "layer", scales[0], width)
        self.drift = MapPair(
            ("One layer over time, recorded", "Control: tokens in random order"), "part of the trace", scales[1], width
        )

    def ask(self, call: tuple) -> None:
        """Ask for the maps."""
        self.load_line.text = style.busy("counting")
        self.lane.ask(Question(call, self.show, self.numbers.next()))

    def show(self, answer: RoutingAnswer | None, line: str) -> None:
        """Draw the maps, and say what they show."""
        if answer is None:
            self.load_line.text = style.failed(line)
            return
        self.load.show(answer.loads.recorded_LE, answer.loads.drawn_LE)
        self.drift.show(answer.drift.recorded_BE, answer.drift.shuffled_BE)
        self.load_line.text, self.drift_line.text = skew_said(answer), drift_said(answer)

    @property
    def layout(self) -> Column:
        """Sentences and maps, one below the other."""
        return column(self.name, self.load_line, row(*self.load.figures), self.drift_line, row(*self.drift.figures))


class RoutingScreen:
    """The fourth screen; another trace is beside the first, in the same colours, where one was given."""

    def __init__(self, inputs: PageInputs, lanes: Lanes) -> None:
        self.inputs, self.source, self.study = inputs, inputs.source, inputs.study
        facts = inputs.facts
        paths = [self.source.trace, *([] if inputs.beside is None else [self.source.beside])]
        width, scales = (MAP_WIDTH if len(paths) == 1 else NARROW_WIDTH), (Scale(), Scale())
        self.traces = [(TraceMaps(str(path), lanes, scales, width), path) for path in paths]
        self.numbers = Numbers()
        self.lane = lanes.long(self.numbers)
        layers = len(facts.layer_ids)
        self.layer = Slider(
            title="Layer over time (its place among the MoE layers)", start=0, end=max(layers - 1, 1), step=1, value=0,
            disabled=layers == 1, width=style.CONTROLS_WIDTH,
        )  # fmt: skip
        most = min(MOST_DEVICES, facts.experts)
        self.devices = Slider(
            title="Devices", start=1, end=max(most, 2), step=1, value=min(8, most), width=style.CONTROLS_WIDTH
        )
        self.redundant = Slider(
            title="Redundant slots (for replicas)", start=0, end=facts.experts, step=1, value=0,
            width=style.CONTROLS_WIDTH,
        )  # fmt: skip
        self.device_line = Div(text="", width=BOTH)
        self.loads = DeviceLoads()
        style.whenever(self.layer, "value_throttled", self.ask_maps)
        for each in (self.devices, self.redundant):
            style.whenever(each, "value", self.ask_devices)

    @property
    def panel(self) -> TabPanel:
        """The screen as a tab."""
        maps = [maps.layout for maps, _ in self.traces]
        placed = Div(text="<h3 style='margin:8px 0 0'>Load of devices under each placement</h3>", width=BOTH)
        parts = [style.heading(QUESTION, EXPLAINED), self.layer, row(*maps), placed, row(self.devices, self.redundant),
                 self.device_line, self.loads.figure]  # fmt: skip
        return TabPanel(child=column(*parts), title=QUESTION)

    def start(self) -> None:
        """Ask for everything."""
        self.ask_maps()
        self.ask_devices()

    def ask_maps(self) -> None:
        """Ask for the maps of every trace."""
        for maps, path in self.traces:
            maps.ask((questions.routing, path, int(self.layer.value)))

    def ask_devices(self) -> None:
        """Ask for the loads of devices."""
        call = (questions.devices, self.study, int(self.devices.value), int(self.redundant.value))
        self.lane.ask(Question(call, self.show_devices, self.numbers.next()))

    def show_devices(self, answer: DeviceAnswer | None, line: str) -> None:
        """Draw the loads of devices."""
        if answer is None:
            self.device_line.text = style.failed(line)
            return
        self.loads.show(answer)
        best = min(answer.heaviest, key=lambda name: answer.heaviest[name])
        self.device_line.text = style.said(
            f"The heaviest device gets {answer.heaviest['contiguous']:.2f} times the mean as experts are numbered, "
            f"{answer.heaviest[best]:.2f} times with {best}: in lockstep all others wait for it. {answer.said}."
        )


class DeviceLoads:
    """Dots: a device's load in a layer, over the mean. Bars: the heaviest device's, on average over layers."""

    def __init__(self) -> None:
        self.dots = ColumnDataSource({"planner": [], "load": [], "layer": [], "device": []})
        self.bars = ColumnDataSource({"planner": [], "heaviest": []})
        self.figure = plot = style.plot(
            "Lower is better; 1 is perfect balance. Line: the heaviest device, on average over layers",
            x_range=FactorRange(), y_axis_label="load, times the mean of all devices", width=BOTH, height=330,
            tools="reset,save",
        )  # fmt: skip
        plot.y_range.start = 0
        dots = plot.scatter(
            jitter("planner", width=0.5, range=plot.x_range),
            "load",
            source=self.dots,
            size=5,
            color=style.BLUE,
            alpha=0.5,
        )
        plot.scatter(
            "planner", "heaviest", source=self.bars, marker="dash", size=70, line_width=4, color=style.RED,
        )  # fmt: skip
        said = [("placement", "@planner"), ("layer", "@layer"), ("device", "@device"), ("load", "@load{0.00}")]
        plot.add_tools(HoverTool(tooltips=said, renderers=[dots]))

    def show(self, answer: DeviceAnswer) -> None:
        """Draw an answer."""
        rows = [
            (name, float(load), layer, device)
            for name, load_LD in answer.over_mean_LD.items()
            for (layer, device), load in np.ndenumerate(load_LD)
        ]
        columns = zip(*rows, strict=True)
        self.figure.x_range.factors = list(answer.heaviest)
        self.dots.data = dict(zip(("planner", "load", "layer", "device"), map(list, columns), strict=True))
        self.bars.data = {"planner": list(answer.heaviest), "heaviest": list(answer.heaviest.values())}


def skew_said(answer: RoutingAnswer) -> str:
    """Return what the load map shows."""
    hottest_L = np.nan_to_num(answer.loads.recorded_LE).max(1)
    layer = int(hottest_L.argmax())
    expert = int(np.nan_to_num(answer.loads.recorded_LE)[layer].argmax())
    chance = float(np.nan_to_num(answer.loads.drawn_LE).max())
    return style.said(
        f"The hottest expert ({expert} of layer {answer.layer_ids[layer]}) gets {hottest_L[layer]:.2f} times the mean "
        f"of its layer; with experts drawn at random the hottest of all would get {chance:.2f} times."
    )


def drift_said(answer: RoutingAnswer) -> str:
    """Return what the map over time shows."""
    drift = answer.drift
    return style.said(
        f"Layer {answer.layer_ids[answer.layer]} over time: in an average part {drift.moved:.1%} of selections would "
        "have to go to another expert for it to be like the whole; with tokens in random order "
        f"{drift.moved_shuffled:.1%}."
    )
