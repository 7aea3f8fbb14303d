"""The plot of the second screen: misses against the memory that experts get, and a line that can be dragged."""

from __future__ import annotations

from itertools import pairwise

from bokeh.models import ColumnDataSource, HoverTool, LegendItem, Span

from moe_replay.figures.live.page_style import CYCLE, GREY, RED, plot
from moe_replay.simulate.answers.miss_answer import OPTIMUM, MissAnswer

MOST_LINES = len(CYCLE)
BEYOND = 1.04  # the end of the axis, over the memory of all experts
UNITS = {"GB": 1e9, "MB": 1e6}


class MissPlot:
    """Miss curves of policies, the optimum shaded; `line` is the memory that is asked about, in `unit`."""

    def __init__(self, bytes_per_slot: int, most_slots: int) -> None:
        self.unit = "GB" if bytes_per_slot * most_slots >= UNITS["GB"] else "MB"
        self.step = bytes_per_slot / UNITS[self.unit]  # of one slot in every layer
        self.figure = plot(
            "Misses against memory for experts: drag the red line", x_axis_label=f"memory for experts, {self.unit}",
            y_axis_label="share of accesses that miss", x_range=(0, BEYOND * most_slots * self.step), y_range=(0, 1),
            tools="reset,save",
        )  # fmt: skip
        self.shade = ColumnDataSource({"size": [], "miss": []})
        self.figure.varea(
            "size", 0, "miss", source=self.shade, fill_color=GREY, fill_alpha=0.35,
            legend_label="no policy can be here",
        )  # fmt: skip
        self.curves = [ColumnDataSource(new_columns()) for _ in range(MOST_LINES)]
        self.names = [""] * MOST_LINES
        lines = []
        for source, colour in zip(self.curves, CYCLE, strict=True):
            line = self.figure.line("size", "miss", source=source, color=colour, width=2.5, visible=False)
            dots = self.figure.scatter("size", "miss", source=source, color=colour, size=6, visible=False)
            lines.append((line, dots))
        self.lines = lines
        hover = HoverTool(
            tooltips=[
                ("", "@policy"), ("slots per layer", "@slots"), ("memory", f"@size{{0.000}} {self.unit}"),
                ("miss", "@miss{0.0%}"),
            ],
            renderers=[dots for _, dots in lines],
        )  # fmt: skip
        self.figure.add_tools(hover)
        self.line = Span(location=0, dimension="height", line_color=RED, line_width=4, editable=True)
        self.figure.add_layout(self.line)

    def size(self, slots: int) -> float:
        """Return the memory that so many slots in every layer take."""
        return slots * self.step

    def show(self, answer: MissAnswer) -> None:
        """Draw the curves of an answer."""
        optimum = answer.curves[OPTIMUM]
        self.shade.data = {
            "size": [self.size(slots) for slots, *_ in optimum], "miss": [ratio for _, ratio, _ in optimum]
        }  # fmt: skip
        policies = [name for name in answer.curves if name != OPTIMUM][:MOST_LINES]
        legend = [item for item in self.figure.legend[0].items if "no policy" in str(item.label)]
        for place, (source, (line, dots)) in enumerate(zip(self.curves, self.lines, strict=True)):
            line.visible = dots.visible = place < len(policies)
            if place < len(policies):
                source.data = self.columns(policies[place], answer)
                legend.append(LegendItem(label=policies[place], renderers=[line, dots]))
        self.figure.legend[0].items = legend

    def columns(self, policy: str, answer: MissAnswer) -> dict:
        """Return the columns of one policy's curve."""
        curve = answer.curves[policy]
        return {
            "policy": [policy] * len(curve), "slots": [slots for slots, *_ in curve],
            "size": [self.size(slots) for slots, *_ in curve], "miss": [ratio for _, ratio, _ in curve],
        }  # fmt: skip


def new_columns() -> dict:
    """Return the columns of an empty curve."""
    return {"policy": [], "slots": [], "size": [], "miss": []}


def at(answer: MissAnswer, policy: str, slots: int) -> float:
    """Return a policy's miss ratio at a number of slots, between two that were counted by a straight line."""
    curve = answer.curves.get(policy, [])
    for (low, before, _), (high, after, _) in pairwise(curve):
        if low <= slots <= high:
            return before + (after - before) * (slots - low) / (high - low)
    return curve[0][1] if curve and curve[0][0] == slots else float("nan")
