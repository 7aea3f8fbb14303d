"""SmartMoE's published points, where the user has them: predicted against measured times, adaptive placement."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.sheet import flow
from moe_replay.figures.drawing.table_files import TableFiles

PUBLISHED, SEARCH, POINTS = "placement_published", "placement_search", "placement_published_points"
SCORED = 2  # the half of the points that was not fitted


def published_figure(tables: TableFiles) -> Figure:
    """Return the figure: a panel per setting of single layers, and one per setting of adaptive placement."""
    fits, searches, points = (tables.rows(name) for name in (PUBLISHED, SEARCH, POINTS))
    drawn = [(layer_panel, row) for _, row in fits[fits["predictor"] == "calibrated"].iterrows()]
    drawn += [(search_panel, row) for _, row in searches.iterrows()]
    figure, places = flow(len(drawn), 3, 2.4, 0)
    for axes, (panel, row) in zip(places, drawn, strict=False):
        panel(axes, row, points[points["published_setting"] == row["published_setting"]])
    return figure


def layer_panel(axes: Axes, row: pd.Series, points: pd.DataFrame) -> None:
    """Draw calibrated against measured times of the half that was not fitted."""
    own = points[points["half"] == SCORED]
    axes.plot(own["measured_ms"], own["calibrated_ms"], ".", color=style.COLOURS[0], markersize=2, alpha=0.5)
    ends = [own["measured_ms"].min(), own["measured_ms"].max()]
    axes.plot(ends, ends, color=style.DARK, linewidth=0.8)
    devices, batch = row["published_setting"].split("-")
    axes.set_title(f"{devices} GPUs, micro-batch {batch}:\n{row['mape_percent']:.1f} % off, R² {row['r2']:.3f}")
    axes.set(xlabel="measured, ms", ylabel="from the heaviest device, ms")


def search_panel(axes: Axes, row: pd.Series, points: pd.DataFrame) -> None:
    """Draw measured times over training, static and adaptive, with calibrated ones as dots."""
    texts = {"contiguous": ("experts in order", style.MIDDLE), "smartmoe": ("adaptive", style.COLOURS[0])}
    for name, own in points.groupby("placement", sort=False):
        text, colour = texts[name]
        axes.plot(own["iteration"], own["measured_ms"], color=colour, linewidth=0.8)
        scored = own[own["half"] == SCORED]
        axes.plot(scored["iteration"], scored["calibrated_ms"], ".", color=style.COLOURS[1], markersize=1.5)
        axes.annotate(
            text, (0.97, own["measured_ms"].iloc[-1]), xycoords=("axes fraction", "data"), xytext=(0, 11),
            textcoords="offset points", ha="right", color=colour, fontsize=style.SMALL,
        )  # fmt: skip
    axes.set_title(
        f"Layer 6, planned every {10 * row['every_points']:.0f} iterations:\n"
        f"{row['measured_speed_up']:.2f}× measured, {row['predicted_speed_up']:.2f}× predicted"
    )
    axes.set(xlabel="iteration (dots: predicted)", ylabel="ms")
