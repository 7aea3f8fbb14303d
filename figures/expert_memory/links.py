"""What does it take to bring an expert from host memory to the device? A panel per device."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.set_panels import panel_per_set
from moe_replay.figures.drawing.sheet import is_column, legend_below
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "links"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: time of copies against their bytes, measured and as fitted."""
    figure = panel_per_set(tables, NAME, "copies", 2.8, panel, 1.5 if is_column() else 1)
    marks = [mark for axes in figure.axes for mark in axes.get_legend_handles_labels()[0]]
    legend_below(figure, marks, most=2 * len(figure.axes))
    style.headline(figure, quickest(tables.rows(NAME)))
    return figure


def quickest(rows: pd.DataFrame) -> str:
    """Return the claim: what the first measured way of copying takes, one copy at a time."""
    if "gigabytes_per_s" not in rows or rows.empty:
        return ""
    one = rows.iloc[0]
    return (
        f"An expert comes at {one['gigabytes_per_s']:.0f} GB/s after {one['latency_us']:.0f} us from "
        f"{one['host_memory']} memory ({one['set']})"
    )


def panel(axes: Axes, name: str, rows: pd.DataFrame) -> None:
    """Draw the medians as points and every fitted link as a line, memories by colour, copies at once by marker."""
    memories = list(dict.fromkeys(rows["host_memory"]))
    for (memory, copies), own in rows.groupby(["host_memory", "copies"], sort=False):
        own = own.sort_values("copy_bytes")
        color = style.COLOURS[memories.index(memory) % len(style.COLOURS)]
        marker = style.MARKERS[(int(copies) - 1) % len(style.MARKERS)]
        fit = f"{own['gigabytes_per_s'].iloc[0]:.3g} GB/s, {own['latency_us'].iloc[0]:.3g} us"
        bars = [own["copy_us"] - own["lower_quartile_us"], own["upper_quartile_us"] - own["copy_us"]]
        axes.errorbar(
            own["copy_bytes"] / 1e6, own["copy_us"], bars, color=color, marker=marker,
            markerfacecolor="none" if memory == memories[0] else color,
            linestyle="none", capsize=2, label=f"{memory}, {copies:.0f} at once: {fit}",
        )  # fmt: skip
        axes.plot(own["copy_bytes"] / 1e6, own["fitted_us"], color=color, linestyle=style.DOTTED, linewidth=1)
    axes.set_title(f"{readable(name)}: copies to the device\n(medians and quartiles; dotted: fitted)")
    axes.set(xscale="log", yscale="log", xlabel="MB of one copy", ylabel="us until all are whole\n(lower is better)")
    style.log_axis(axes.xaxis)
    style.log_axis(axes.yaxis)
