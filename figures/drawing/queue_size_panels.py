"""The panels of the queue-size figure: what each axis shows and how sources and settings are told apart."""

import pandas as pd
from matplotlib.axes import Axes

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.sheet import beside, is_column

ASIDE = 1.07  # neighbouring series draw their executed points this factor of B apart, so that intervals can be told
PERCENTILES = {"latency_p50_ms": "median", "latency_p95_ms": "p95"}
CROSS_ROOM = 23  # points between frame and title, for the crosses of three loads
NEARLY = 0.95  # of the largest throughput
FEW = 2  # runs: their t interval is an order wider than their distance, so that both are drawn instead


def plain_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the lockstep baseline and of queues without departures."""
    if "departures" not in table:
        return table
    return table[(table["scheduler"] == "lockstep") | table["departures"].isna()]


def source_rows(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """Return the queue rows of one source by ascending B."""
    return rows[(rows["source"] == source) & (rows["scheduler"] == "queues")].sort_values("queue_size")


def series(axes: Axes, rows: pd.DataFrame, x: str, y: str, index: int, label: str, aside: float = 1) -> None:
    """Draw one series from two sources: executed as points, simulated as a line in its band.

    Two runs are two points; one run, or more than two, their mean with its interval.
    The band is the 95 % interval of the mean over the simulated replications, often thinner than the line. Where
    nothing was executed the line carries hollow markers, so that series still differ without colour. The points are
    at `aside` times their x.
    """
    look = style.look(index)
    executed, simulated = source_rows(rows, "executed"), source_rows(rows, "simulated")
    points = {"color": look["color"], "marker": look["marker"], "linestyle": "none"}
    two = executed["replications"] == FEW if f"{y}_least" in list(executed) else executed[x].isna()
    for end in ("least", "most") if two.any() else ():
        axes.plot(aside * executed.loc[two, x], executed.loc[two, f"{y}_{end}"], **points)
    many = executed[~two]
    if len(many):
        bars = [many[y] - many[f"{y}_low"], many[f"{y}_high"] - many[y]] if f"{y}_low" in many else None
        axes.errorbar(aside * many[x], many[y], bars, **points, capsize=2.5, elinewidth=1)
    hollow = {} if len(executed) else {"marker": look["marker"], "markerfacecolor": "none"}
    axes.plot(simulated[x], simulated[y], color=look["color"], linestyle=look["linestyle"], **hollow)
    style.band(axes, simulated, x, y, look["color"])
    axes.plot([], [], **look, label=label)


def throughput_panel(axes: Axes, name: str, closed: pd.DataFrame, sizes: list[int]) -> None:
    """Draw throughput in a closed loop against B for every N, the capacity at full batches, the lockstep baseline."""
    for index, (number, rows) in enumerate(closed[closed["scheduler"] == "queues"].groupby("in_flight")):
        aside = ASIDE ** (index - 1)
        series(axes, rows, "queue_size", "throughput_per_s", index, f"N = {number:.0f} in flight", aside)
    theory = source_rows(closed, "theory").drop_duplicates("queue_size")
    axes.plot(theory["queue_size"], theory["throughput_per_s"], color=style.DARK, **style.THEORY)
    lockstep = closed[closed["scheduler"] == "lockstep"].sort_values(["source", "in_flight"], ascending=[True, False])
    place = {"loc": "best"}
    for row in lockstep.to_dict("records")[:1]:
        if (
            row["throughput_per_s"] >= closed["throughput_per_s"].max() * NEARLY
        ):  # below the line, where curves begin low
            anchor = {"bbox_to_anchor": (0, row["throughput_per_s"]), "bbox_transform": axes.get_yaxis_transform()}
            place = {"loc": "upper left", **anchor}
        axes.axhline(row["throughput_per_s"], color=style.MIDDLE, linewidth=0.8)
        text = f"lockstep, {row['setting']}, {row['source']}"
        style.note(axes, text, (0.98, row["throughput_per_s"]), ("axes fraction", "data"), (0, 2), "right")
    style.queue_size_axis(axes, sizes)
    axes.set_ylim(bottom=0)
    axes.set_ylim(top=1.1 * axes.get_ylim()[1])  # room for what is said of lockstep
    axes.set_title(f"{name}: throughput, closed loop")
    axes.set_ylabel("passes/s\n(higher is better)")
    axes.legend(**place)


def forced_panel(axes: Axes, name: str, closed: pd.DataFrame, sizes: list[int]) -> None:
    """Draw the share of batches that only the stall rule started: there N is too small for B."""
    for index, (number, rows) in enumerate(closed[closed["scheduler"] == "queues"].groupby("in_flight")):
        in_percent = rows.assign(percent=rows["forced_batches"] * 100)
        series(axes, in_percent, "queue_size", "percent", index, f"N = {number:.0f}")
    axes.axhline(10, color=style.DARK, linestyle=style.DOTTED, linewidth=0.9)
    style.note(axes, "10 %", (1, 10), ("axes fraction", "data"), (0, 2), "right")
    style.queue_size_axis(axes, sizes)
    axes.set_ylim(-3, 103)
    axes.set_title(beside(name, "batches started unfilled"), pad=style.TITLE_PAD if is_column() else CROSS_ROOM)
    axes.set_ylabel("forced batches (%)")


def latency_panel(axes: Axes, name: str, poisson: pd.DataFrame, sizes: list[int], column: str) -> None:
    """Draw one percentile of latency against B for every load; a cross above the frame is a B that cannot keep up."""
    style.queue_size_axis(axes, sizes)
    axes.set_yscale("log")
    for index, (load, rows) in enumerate(poisson.groupby("load")):
        look = style.look(index)
        series(axes, rows, "queue_size", column, index, f"load {load:.1f}", ASIDE ** (index - 1))
        theory = source_rows(rows, "theory")
        axes.plot(theory["queue_size"], theory[column], color=look["color"], **style.THEORY)
        unstable = rows[rows["status"].isin(["unstable", "short"]) & (rows["source"] != "theory")]
        lost = unstable.loc[~unstable["queue_size"].isin(rows.loc[rows["status"] == "ok", "queue_size"]), "queue_size"]
        if len(lost):
            heights = [1.02 + 0.05 * index] * len(lost)  # outside the scale: nothing was measured there
            crosses = {"transform": axes.get_xaxis_transform(), "linestyle": "none", "clip_on": False}
            axes.plot(lost, heights, marker="x", color=look["color"], markersize=4, **crosses)
    style.log_axis(axes.yaxis)
    axes.set_title(f"{name}: {PERCENTILES[column]} latency, Poisson arrivals", pad=CROSS_ROOM)
    axes.set_ylabel("ms per pass\n(lower is better)")
    axes.legend(loc="best")


def tradeoff_panel(axes: Axes, name: str, trade: pd.DataFrame) -> None:
    """Draw what a machine can deliver at most at each B against the median latency a pass then has, per load."""
    axes.set_title(beside(name, "what throughput costs"), pad=style.TITLE_PAD if is_column() else CROSS_ROOM)
    axes.set_xlabel("saturated throughput (passes/s)")
    axes.set_ylabel("median ms per pass")
    if trade.empty:
        style.absent(axes, "no Poisson arrivals were executed or simulated")
        return
    trade = trade.assign(scheduler="queues")
    for index, (load, rows) in enumerate(trade.groupby("load")):
        series(axes, rows, "saturated_throughput_per_s", "latency_p50_ms", index, f"load {load:.1f}")
    axes.set_yscale("log")
    style.log_axis(axes.yaxis)
    axes.margins(x=0.1, y=0.2)
    shown = trade[(trade["load"] == trade["load"].min()) & (trade["source"] != "theory")].drop_duplicates("queue_size")
    for row in shown.dropna(subset=["latency_p50_ms"]).to_dict("records"):
        at = (row["saturated_throughput_per_s"], row["latency_p50_ms"])
        style.note(axes, f"B={row['queue_size']:.0f}", at, offset=(0, 5), ha="center")
