"""What does choosing K per sample change in throughput and latency?"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import beside, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "delta_k_serving"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per set throughput, latency, and accuracy against throughput, by mean experts per sample."""
    rows = tables.rows(NAME)
    sets = list(dict.fromkeys(rows.get("set", []))) or ["no set"]
    figure, grid = panels(len(sets), 3, 2.6)
    for (throughput, latency, cost), name in zip(grid, sets, strict=True):
        chosen = rows[rows["set"] == name] if "set" in rows else rows
        throughput.set_title(f"{readable(name)}\nthroughput, closed loop{at_b(chosen)}")
        latency.set_title(beside(readable(name), f"latency, Poisson arrivals\n{loads(chosen)}{at_b(chosen)}"))
        cost.set_title(beside(readable(name), "what accuracy costs\nin throughput"))
        if chosen.empty or "source" not in chosen:
            style.hole(throughput, tables.missing(NAME, name))
            continue
        throughput_panel(throughput, chosen[chosen["arrivals"] == "closed"])
        latency_panel(latency, chosen[chosen["arrivals"] == "poisson"])
        accuracy_panel(cost, chosen[chosen["arrivals"] == "closed"])
    style.headline(figure, faster(rows))
    return figure


def at_b(rows: pd.DataFrame) -> str:
    """Return the queue sizes at which a set was served."""
    sizes = sorted(set(rows["queue_size"].dropna())) if "queue_size" in rows else []
    return f", B = {', '.join(f'{size:.0f}' for size in sizes)}" if sizes else ""


def loads(rows: pd.DataFrame) -> str:
    """Return how much arrived: a share of what the fixed point with most experts can serve."""
    poisson = rows[rows["arrivals"] == "poisson"] if "arrivals" in rows else rows.iloc[:0]
    return ", ".join(dict.fromkeys(poisson["setting"])) if len(poisson) else "not served"


def faster(rows: pd.DataFrame) -> str:
    """Return the claim: throughput and accuracy of the dynamic point nearest to 2 experts, and of most experts."""
    if "dynamic" not in rows or rows.empty:
        return ""
    closed = rows[
        (rows["source"] == "executed") & (rows["arrivals"] == "closed") & (rows["set"] == rows["set"].iloc[0])
    ]
    most = closed[closed["setting"] == closed["setting"].max()]
    dynamic = most[most["dynamic"]]
    fixed = most[~most["dynamic"]].sort_values("mean_k")
    if dynamic.empty or fixed.empty:
        return ""
    one, other = dynamic.loc[(dynamic["mean_k"] - 2).abs().idxmin()], fixed.iloc[-1]
    return (
        f"{one['mean_k']:.1f} experts per sample instead of {other['mean_k']:.0f} serve {one['throughput_per_s']:,.0f} "
        f"instead of {other['throughput_per_s']:,.0f} samples/s and answer {one['accuracy_percent']:.1f} instead of "
        f"{other['accuracy_percent']:.1f} % right ({one['set']})"
    )


def sources(axes: Axes, rows: pd.DataFrame, column: str, index: int, label: str) -> None:
    """Draw one quantity against mean K: executed filled, simulated hollow; fixed K joined, dynamic K as stars."""
    look = style.look(index)
    executed, simulated = (rows[rows["source"] == source].sort_values("mean_k") for source in ("executed", "simulated"))
    for one, face in ((executed, look["color"]), (simulated, "none")):
        for dynamic, marker in ((False, look["marker"]), (True, "*")):
            part = one[one["dynamic"] == dynamic]
            bars = None
            if f"{column}_low" in part:
                bars = [part[column] - part[f"{column}_low"], part[f"{column}_high"] - part[column]]
            axes.errorbar(
                part["mean_k"], part[column], bars, color=look["color"], markerfacecolor=face, marker=marker,
                markersize=7 if dynamic else 3.5, capsize=2.5, elinewidth=1,
                linestyle=look["linestyle"] if face != "none" and not dynamic else "none",
            )  # fmt: skip
    axes.plot([], [], **look, label=label)


def legend_of_kinds(axes: Axes) -> None:
    """Say what stars and hollow marks mean."""
    shown = {"linestyle": "none", "color": style.DARK}
    axes.plot([], [], **shown, marker="*", markersize=9, label="dynamic K (delta)")
    axes.plot([], [], **shown, marker="o", markerfacecolor="none", label="hollow: simulated")
    axes.legend(loc="best")


def throughput_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw throughput of closed loops, one series per number in flight."""
    for index, (setting, part) in enumerate(rows.groupby("setting", sort=True)):
        sources(axes, part, "throughput_per_s", index, f"{setting} in flight")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("mean experts per sample")
    axes.set_ylabel("samples/s (higher is better)")
    legend_of_kinds(axes)


def latency_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw median and 95th percentile latency; every point met the same arrivals per second."""
    for index, (column, label) in enumerate({"latency_p50_ms": "p50", "latency_p95_ms": "p95"}.items()):
        sources(axes, rows, column, index, label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("mean experts per sample")
    axes.set_ylabel("ms per sample (lower is better)")
    axes.legend(loc="best")


def accuracy_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw accuracy against executed throughput at the most samples in flight: fixed K joined, dynamic K as stars."""
    executed = rows[rows["source"] == "executed"]
    most = executed[executed["setting"] == executed["setting"].max()].sort_values("throughput_per_s")
    look = style.look(0)
    fixed, dynamic = most[~most["dynamic"]], most[most["dynamic"]]
    axes.plot(fixed["throughput_per_s"], fixed["accuracy_percent"], **look, label="fixed K")
    axes.plot(
        dynamic["throughput_per_s"], dynamic["accuracy_percent"], linestyle="none", marker="*", markersize=9,
        color=style.COLOURS[1], label="dynamic K (delta)",
    )  # fmt: skip
    for row in most.to_dict("records"):
        at = (row["throughput_per_s"], row["accuracy_percent"])
        last = at[0] == most["throughput_per_s"].max()
        beside_it = {"offset": (-6, -4), "ha": "right"} if last else {"offset": (5, -9)}
        style.note(axes, f"K={row['mean_k']:.2g}", at, **beside_it)
    axes.set_xlabel(f"executed samples/s, {most['setting'].iloc[0]}" if len(most) else "executed samples/s")
    axes.set_ylabel("accuracy (%)")
    axes.legend(loc="best")
