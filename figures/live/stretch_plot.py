"""A stretch of a run, drawn: what every device computes and every link carries."""

from __future__ import annotations

import numpy as np
from bokeh.models import ColumnDataSource, FactorRange, HoverTool

from moe_replay.figures.live import page_style as style
from moe_replay.simulate.answers.time_answer import Stretch

HEIGHT = 260
THICK = 0.7  # of a track
DENSE, EXPERT, FORCED, DEMAND, PREFETCH = "dense block", "expert", "expert, forced", "transfer, demanded", "prefetch"
COLOURS = {DENSE: style.GREY, EXPERT: style.BLUE, FORCED: style.SKY, DEMAND: style.GREEN, PREFETCH: style.PURPLE}
COLUMNS = ("track", "from_ms", "to_ms", "kind", "colour", "words")


class StretchPlot:
    """Batches and transfers as bars over time; a track for each device and link."""

    def __init__(self) -> None:
        self.source = ColumnDataSource({name: [] for name in COLUMNS})
        self.figure = style.plot(
            "Click on a bar above: this is a stretch of the run in which it is large", y_range=FactorRange(),
            x_axis_label="ms since the run began", height=HEIGHT, width=style.FULL_WIDTH,
            tools="xpan,xwheel_zoom,reset,save",
        )  # fmt: skip
        bars = self.figure.hbar(
            y="track", left="from_ms", right="to_ms", height=THICK, source=self.source, fill_color="colour",
            line_color=None, legend_field="kind",
        )  # fmt: skip
        self.figure.add_tools(
            HoverTool(tooltips=[("", "@words"), ("", "@from_ms{0.000} to @to_ms{0.000} ms")], renderers=[bars])
        )
        self.figure.add_layout(self.figure.legend[0], "right")

    def show(self, stretch: Stretch, title: str, devices: int) -> None:
        """Draw a stretch."""
        rows = [*batch_rows(stretch.batches, devices), *transfer_rows(stretch.transfers)]
        self.figure.y_range.factors = sorted({row[0] for row in rows}, reverse=True)
        self.figure.title.text = title
        self.figure.x_range.start, self.figure.x_range.end = stretch.from_ns / 1e6, stretch.to_ns / 1e6
        self.source.data = {name: [row[place] for row in rows] for place, name in enumerate(COLUMNS)}


def batch_rows(batches: dict[str, np.ndarray], devices: int) -> list[tuple]:
    """Return a row for every batch."""
    rows = []
    for number in range(len(batches["start_ns"])):
        one = {name: values[number] for name, values in batches.items()}
        kind = DENSE if one["block"] == 0 else FORCED if one["forced"] else EXPERT
        what = "dense block" if one["block"] == 0 else f"expert {one['block'] - 1}"
        words = f"layer {one['layer']}, {what}: {one['tokens']} tokens" + (", forced" if one["forced"] else "")
        track = f"device {one['device']}" if one["device"] < devices else "host"
        rows.append((track, one["start_ns"] / 1e6, one["end_ns"] / 1e6, kind, COLOURS[kind], words))
    return rows


def transfer_rows(transfers: dict[str, np.ndarray]) -> list[tuple]:
    """Return a row for every transfer, none where all experts were resident."""
    rows = []
    for number in range(len(transfers.get("start_ns", ()))):
        one = {name: values[number] for name, values in transfers.items()}
        kind = PREFETCH if one["prefetch"] else DEMAND
        waited = (one["start_ns"] - one["asked_ns"]) / 1e6
        words = f"expert {one['expert']} of layer {one['layer']}, waited {waited:.3f} ms for the link"
        track = f"link {one['link']}"
        rows.append((track, one["start_ns"] / 1e6, one["end_ns"] / 1e6, kind, COLOURS[kind], words))
    return rows
