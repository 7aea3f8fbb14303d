"""What the figures of gating memory share: scales of batch sizes, names of what was published."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from moe_replay.figures.drawing import style

PUBLISHED = {"lm": "language model's ratios", "mt": "translation model's ratios"}


def batch_scale(axes: Axes, batches: pd.Series, label: str) -> None:
    """Make both axes logarithmic, one tick per batch size."""
    if batches.empty:
        style.absent(axes, "the published models' ratios are not among what was measured")
        return
    axes.set(xscale="log", yscale="log", xlabel="batch S (tokens)", ylabel=label)
    ticks_at(axes.xaxis, sorted(set(batches)))
    decades_only(axes.yaxis)


def ticks_at(axis: Axis, values: list) -> None:
    """Put ticks at some values alone, as plain numbers."""
    axis.set_major_locator(FixedLocator(values))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def decades_only(axis: Axis) -> None:
    """Label powers of ten as plain numbers; ticks between them are bare, but where the view holds no two decades."""
    low, high = axis.get_view_interval()
    if np.floor(np.log10(high)) - np.ceil(np.log10(low)) < 1:
        style.log_axis(axis)
        return
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
