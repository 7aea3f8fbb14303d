"""What do steps of expert-parallel clusters take, system by system? Bars split by what the devices spend them on."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import is_column, legend_below, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME, PUBLISHED = "end_to_end", "end_to_end_published"
COLUMNS = 3
TRACES = {
    "language-decode": "decode", "language-prefill": "prefill", "training": "training",
}  # fmt: skip
SYSTEMS = {
    "contiguous": "in order", "lpt": "heaviest first", "smartmoe-adaptive": "SmartMoE, adaptive", "eplb": "EPLB",
    "eplb-adaptive": "EPLB, adaptive", "co-activation": "co-activation",
}  # fmt: skip
PARTS = {"dense": "#0072B2", "expert": "#E69F00", "wire": "#9AD0F0", "waiting": style.LIGHT}
HATCHED = {"wire": "////"}  # in grey it is as light as experts
WORDS = {"dense": "dense layers", "expert": "experts", "wire": "exchange between devices", "waiting": "waiting"}
KEY = (
    "Upper bar of a pair: a step in one micro-batch; lower, paler: in two. Numbers: ms a step. +8: redundant experts. "
    "Planned from the steps before those timed; batches cost what one expert and one dense block took on {costs}."
)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: three traces on the first cluster, two on the last, and the published speed-ups."""
    rows, published = tables.rows(NAME), tables.rows(PUBLISHED)
    found = chosen(rows) if "mean_step_ms" in rows else []
    lines = 1 if is_column() else 2  # a column has room for one cluster
    figure, grid = panels(lines, COLUMNS + (lines == 1), 2.3, 1.4, stacked=(0.85, 0.85, 1.05, 1.05))
    for at, axes in enumerate(grid.flat[:-1]):
        line, column = divmod(at, COLUMNS)
        if column < len(found):
            name, own = found[column]
            clusters = list(own.groupby(["links", "nodes"], sort=False))
            panel(axes, name, *clusters[-line], named=column == 0 or is_column())
        elif found:
            lacking = [word for trace, word in TRACES.items() if trace not in dict(found)]
            style.absent(axes, f"no steps of {lacking[column - len(found)]} were timed")
    if found:
        speed_ups(grid.flat[-1], rows, published)
        bars = [Patch(facecolor=colour, hatch=HATCHED.get(part), edgecolor="white", label=WORDS[part])
                for part, colour in PARTS.items()]  # fmt: skip
        legend_below(figure, bars, said=readable(KEY.format(costs=rows["step_costs"].iloc[0])))
        style.headline(figure, hottest(tables.numbers(NAME)))
    else:
        for axes in grid.flat[1:]:
            axes.axis("off")
        style.hole(grid[0][0], tables.missing(NAME))
    return figure


def hottest(numbers: dict) -> str:
    """Return the claim: a step with the hottest expert, placed and replicated, and what replicas cost at the worst."""
    known = [each for each in numbers.values() if isinstance(each, dict) and "replicas_ms" in each]
    if not known:
        return ""
    hot = max(known, key=lambda each: each["hottest"])
    return (
        f"With one hot expert a step takes {hot['in_order_ms']:.2f} ms in order, {hot['whole_ms']:.2f} ms in the best "
        f"placement, {hot['replicas_ms']:.2f} ms with {hot['redundant']} replicas; elsewhere replicas make a step up "
        f"to {max(each['replicas_change'] for each in known) - 1:.0%} longer, two micro-batches up to "
        f"{max(each['parts_change'] for each in known) - 1:.0%}"
    )


def chosen(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return (trace, its rows) of at most three traces, of each kind the first set's; shortest steps first."""
    first = rows.drop_duplicates("trace")[["set", "trace"]]
    found = [(trace, rows[(rows["set"] == name) & (rows["trace"] == trace)]) for name, trace in first.to_numpy()]
    return sorted(found, key=lambda each: each[1]["step_tokens"].iloc[0])[:COLUMNS]


def panel(axes: Axes, trace: str, cluster: tuple[str, int], rows: pd.DataFrame, named: bool) -> None:
    """Draw a trace's systems on a cluster: a pair of bars each, split into parts that add up to the step."""
    systems = list(dict.fromkeys(zip(rows["system"], rows["redundant"], strict=True)))
    most = rows["mean_step_ms"].max() * 1.22
    for row in rows.to_dict("records"):
        second = row["micro_batches"] > 1
        y, left = systems.index((row["system"], row["redundant"])) + (0.2 if second else -0.2), 0.0
        for part, colour in PARTS.items():
            axes.barh(y, row[f"{part}_ms"], 0.36, left=left, color=colour, alpha=0.55 if second else 1, linewidth=0,
                      hatch=HATCHED.get(part), edgecolor="white")  # fmt: skip
            left += row[f"{part}_ms"]
        style.note(axes, f"{row['mean_step_ms']:.2f}", (left, y), offset=(2, -2.2))
    nodes = f"{cluster[1]} node{'s' * (cluster[1] > 1)}"
    title = f"{TRACES.get(trace, trace)}, {rows['step_tokens'].iloc[0]:,} tokens\n{cluster[0]}, {nodes}"
    axes.set_title(title)
    axes.set_yticks(range(len(systems)), [label(*each) if named else "" for each in systems])
    axes.set(xlim=(0, most), ylim=(len(systems) - 0.5, -0.5), xlabel="ms a step")
    axes.grid(visible=False, axis="y")


def label(system: str, redundant: int) -> str:
    """Return what a system is called."""
    name, comma, how = SYSTEMS.get(system, system).partition(",")
    return f"{name} +{redundant}{comma}{how}" if redundant else f"{name}{comma}{how}"


def speed_ups(axes: Axes, rows: pd.DataFrame, published: pd.DataFrame) -> None:
    """Draw SmartMoE's published speed-ups (open) and its rule's here (filled), a row for each figure or trace."""
    figures = published.groupby("published_figure", sort=False)["published_speed_up"]
    places = [(f"published: fig. {name}", values, "white") for name, values in figures]
    places += [
        (f"here: {TRACES.get(trace, trace)}", own["speed_up"], style.COLOURS[0]) for trace, own in adaptive(rows)
    ]
    for y, (name, values, inside) in enumerate(places):
        axes.plot(values, [y] * len(values), "o", color=style.COLOURS[0], markersize=4, markerfacecolor=inside)
        style.note(axes, f"{values.max():.2f}", (values.max(), y), offset=(4, -2.2))
        axes.text(
            0.01,
            y - 0.42,
            name,
            transform=axes.get_yaxis_transform(),
            va="center",
            fontsize=style.SMALL,
            color=style.DARK,
        )
    axes.axvline(1, color=style.MIDDLE, linewidth=0.8)
    axes.set(yticks=[], ylim=(len(places) - 0.5, -0.8), xlabel="times as fast as in order")
    axes.margins(x=0.15)
    axes.set_title("SmartMoE over experts in order:\npublished (open), here (filled)")


def adaptive(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return (trace, rows) of SmartMoE's rule with one micro-batch, a row for every cluster."""
    own = rows[(rows["system"] == "smartmoe-adaptive") & (rows["micro_batches"] == rows["micro_batches"].min())]
    return list(own.groupby("trace", sort=False))
