"""Do ports explain how long exchanges between devices take? A panel per way of executing them."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import flow
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "all_to_all"
BAND = 0.10
TITLES = {
    "paced": "paced ports", "held": "paced, small buffers", "loopback": "loopback, not paced",
    "gloo": "gloo", "nccl": "NCCL",
}  # fmt: skip


def draw(tables: TableFiles) -> Figure:
    """Return the figure: time of every exchange, executed across and by the port model up."""
    rows, summary = tables.rows(NAME), tables.rows(f"{NAME}_summary")
    fine = rows[rows["status"] == "ok"] if "way" in rows else rows.iloc[:0]
    panels = list(fine.groupby(["set", "way"], sort=False)) if len(fine) else []
    figure, places = flow(len(panels), 3, 2.45 if len(panels) > 2 else 3.4)
    for axes, ((name, way), own) in zip(places, panels, strict=False):
        scores = summary[(summary["set"] == name) & (summary["way"] == way)]
        panel(axes, own, scores)
        several = fine["set"].nunique() > 1
        axes.set_title(f"{readable(name)}\n{TITLES.get(way, way)}" if several else TITLES.get(way, way))
    if not panels or tables.holes:
        style.hole(places[0], tables.missing(NAME), beside_data=bool(panels))
    style.headline(figure, explained(summary))
    return figure


def explained(summary: pd.DataFrame) -> str:
    """Return the claim: how far exchanges are from what ports say, way by way, among as many devices as is worst."""
    if "mape_percent" not in summary:
        return ""
    worst = summary.groupby("way", sort=False)["mape_percent"].max().dropna()
    said = ", ".join(f"{percent:.2g} % ({TITLES.get(way, way)})" for way, percent in worst.items())
    return f"Exchanges take what the ports' latency and bandwidth say, off in the mean by {said}" if said else ""


def panel(axes: Axes, rows: pd.DataFrame, scores: pd.DataFrame) -> None:
    """Draw the exchanges of one way, numbers of devices by look, with the range over repetitions and a band of 10 %."""
    low = min(rows["took_least_ms"].min(), rows["ports_ms"].min()) / 1.3
    high = max(rows["took_most_ms"].max(), rows["ports_ms"].max()) * 1.3
    line = np.array([low, high])
    axes.fill_between(line, line * (1 - BAND), line * (1 + BAND), color=style.LIGHT, linewidth=0)
    axes.plot(line, line, color=style.DARK, linewidth=0.8)
    for at, (devices, own) in enumerate(rows.groupby("devices")):
        error = scores.loc[scores["devices"] == devices, "mape_percent"].iloc[0]
        spread = [own["took_ms"] - own["took_least_ms"], own["took_most_ms"] - own["took_ms"]]
        axes.errorbar(
            own["took_ms"], own["ports_ms"], xerr=spread, color=style.COLOURS[at % len(style.COLOURS)],
            marker=style.MARKERS[at % len(style.MARKERS)], linestyle="none", markerfacecolor="none", linewidth=0.8,
            label=f"{devices:.0f} devices: {error:.2g} % off",
        )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.set_xlabel("executed (ms), least to most")
    axes.set_ylabel("by ports (ms)")
    for axis in (axes.xaxis, axes.yaxis):
        style.log_axis(axis)
        axis.set_tick_params(labelsize=style.SMALL)
    axes.legend(loc="upper left")
