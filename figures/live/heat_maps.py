"""Heat maps in pairs: what was recorded, and beside it the control; all maps of one kind in the same colours."""

from __future__ import annotations

import numpy as np
from bokeh.models import ColorBar, ColumnDataSource, HoverTool, LinearColorMapper
from bokeh.plotting import figure

from moe_replay.figures.live.page_style import plot

PALETTE = "Cividis256"  # read alike with any colour vision, and in grey
MAP_WIDTH, NARROW_WIDTH, MAP_HEIGHT = 520, 330, 300  # narrow ones where the maps of two traces are side by side
LEAST_SCALE = 2.0  # times the mean: even loads are not blown up
EMPTY_COLOUR = "#ffffff"  # where nothing was selected


class Scale:
    """The colours of all maps of one kind, up to the largest load that any of them has."""

    def __init__(self) -> None:
        self.mapper = LinearColorMapper(palette=PALETTE, low=0, high=LEAST_SCALE, nan_color=EMPTY_COLOUR)
        self.largest: dict[MapPair, float] = {}

    def take(self, maps: MapPair, largest: float) -> None:
        """Note the largest load that two maps show now."""
        self.largest[maps] = largest
        self.mapper.high = max(LEAST_SCALE, *self.largest.values())


class MapPair:
    """Two maps of load over the mean; rows run upwards, experts to the right."""

    def __init__(self, titles: tuple[str, str], rows: str, scale: Scale, width: int) -> None:
        self.scale, self.width = scale, width
        self.sources = [ColumnDataSource({"image": [], "width": [], "height": []}) for _ in titles]
        self.figures = [self.map(title, rows, source) for title, source in zip(titles, self.sources, strict=True)]
        bar = ColorBar(color_mapper=scale.mapper, title="times the mean", width=12)
        self.figures[-1].add_layout(bar, "right")

    def map(self, title: str, rows: str, source: ColumnDataSource) -> figure:
        """Return one of the two maps."""
        made = plot(
            title, width=self.width, height=MAP_HEIGHT, x_axis_label="expert", y_axis_label=rows, tools="reset,save"
        )
        made.x_range.range_padding = made.y_range.range_padding = 0
        for axis in (*made.xaxis, *made.yaxis):
            axis.ticker.min_interval, axis.ticker.num_minor_ticks = 1, 0  # experts and layers are whole
        image = made.image(
            image="image", x=-0.5, y=-0.5, dw="width", dh="height", source=source, color_mapper=self.scale.mapper
        )
        said = [("expert", "$x{0}"), (rows, "$y{0}"), ("load", "@image{0.00} times the mean")]
        made.add_tools(HoverTool(tooltips=said, renderers=[image]))
        return made

    def show(self, recorded_XE: np.ndarray, control_XE: np.ndarray) -> None:
        """Draw a map and its control."""
        self.scale.take(self, float(np.nanmax(recorded_XE, initial=0)))
        for source, values_XE in zip(self.sources, (recorded_XE, control_XE), strict=True):
            height, width = values_XE.shape
            source.data = {"image": [values_XE.astype(float)], "width": [width], "height": [height]}
