"""How balanced are devices on selections that a planner did not see? A panel per trace, a row per planner."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import DATA, readable
from moe_replay.figures.drawing.sheet import flow
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "balance"
MOST_PANELS, COLUMNS = 6, 3
LABELS = {
    "contiguous": "in order", "greedy": "greedy (Huang)", "anti-correlation": "anti-corr. 0.5 (Huang)",
    "anti-correlation=0.02": "anti-corr. 0.02", "lpt": "heaviest first", "eplb": "EPLB",
}  # fmt: skip
TRACES = {
    "wide": "classifier", "language-decode": "decode", "training": "training, no balance loss",
}  # fmt: skip
KEY = (
    "Load of the heaviest of the devices over their mean, on held-out batches; lower is better. Dotted: no placement "
    "without replicas does better. Open: with redundant experts. Orange squares: no better than in order."
)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: max/mean of every planner on held-out batches, the least balanced traces first."""
    rows = tables.rows(NAME)
    traces = list(rows.groupby(["set", "trace"], sort=False)) if "max_load" in rows else []
    traces = sorted(traces, key=lambda each: -each[1]["device_max_over_mean"].iloc[0])[:MOST_PANELS]
    shown = [(of_data(name), trace) for (name, trace), _ in traces]
    figure, panels = flow(len(traces), COLUMNS, 2.0, 0.8, share_y="all" if traces else "")
    for axes, ((name, trace), own) in zip(panels, traces, strict=False):
        alone = shown.count((of_data(name), trace)) == 1
        named = DATA.get(of_data(name), of_data(name)) if alone else readable(name)
        panel(axes, f"{named}: {TRACES.get(trace, trace)}", own)
    if traces:
        same_scale(panels, [own for _, own in traces])
        style.headline(figure, lowered(traces, [axes.get_title(loc="left").partition("\n")[0] for axes in panels]))
        style.key(figure, KEY)
    else:
        style.hole(panels[0], tables.missing(NAME))
    return figure


def same_scale(panels: list[Axes], traces: list[pd.DataFrame]) -> None:
    """Give all panels one scale, so that little imbalance looks like little; the last row names it."""
    values = pd.concat([own["device_max_over_mean"] for own in traces])
    room = 0.28 * (values.max() - 1)  # at the right, for the number beside the last point
    for at, axes in enumerate(panels):
        axes.set_xlim(min(1, values.min()) - 0.1 * room, values.max() + room)
        axes.set_xlabel("heaviest device ÷ mean" if at >= len(panels) - COLUMNS else "")


def lowered(traces: list[tuple[tuple, pd.DataFrame]], names: list[str]) -> str:
    """Return the claim: what greedy placement does where load is least even, and where it is most."""
    said = []
    for (_, own), name in ((traces[0], names[0]), (traces[-1], names[-1])):
        value = own[own["redundant"] == 0].set_index("planner")["device_max_over_mean"]
        said.append((f"{value['contiguous']:.2f} to {value['greedy']:.2f}", name))
    (uneven, first), (even, last) = said
    claim = f"Greedy placement takes the heaviest device's load from {uneven} times the mean ({first})"
    return f"{claim}; where load is even it changes little ({even}, {last})" if len(traces) > 1 else claim


def of_data(name: str) -> str:
    """Return the data of a set DEVICE/DATA."""
    return name.rpartition("/")[2]


def panel(axes: Axes, trace: str, rows: pd.DataFrame) -> None:
    """Draw a trace's planners from the value with experts in order; open circles have replicas, dots are the bound."""
    bound = rows.loc[rows["planner"] == "bound", "device_max_over_mean"]
    same_as_lpt = (rows["planner"] == "eplb") & (rows["redundant"] == 0)  # without replicas it is heaviest first
    shown = rows[(rows["planner"] != "bound") & ~same_as_lpt].reset_index(drop=True)
    in_order, greedy = (
        shown.loc[shown["planner"] == name, "device_max_over_mean"].iloc[0] for name in ("contiguous", "greedy")
    )
    for at, row in shown.iterrows():
        value = row["device_max_over_mean"]
        colour = style.MIDDLE if at == 0 else style.COLOURS[0] if value < in_order else style.COLOURS[1]
        axes.hlines(at, in_order, value, color=style.LIGHT, linewidth=2, zorder=1)
        inside = "white" if row["redundant"] else colour
        marker = "s" if colour == style.COLOURS[1] else "o"
        axes.plot(value, at, marker, color=colour, markerfacecolor=inside, markersize=4.5)
        style.note(axes, f"{value:.2f}", (value, at), offset=(5, -2.5))
    axes.axvline(in_order, color=style.MIDDLE, linewidth=0.8)
    if len(bound):
        axes.axvline(bound.iloc[0], color=style.DARK, **style.THEORY)
    axes.set_title(f"{trace}\n{in_order:.2f} in order, {greedy:.2f} greedy")
    axes.set_yticks(range(len(shown)), [label(row) for _, row in shown.iterrows()])
    axes.set_ylim(len(shown) - 0.5, -0.5)


def label(row: pd.Series) -> str:
    """Return what a planner is called."""
    text = LABELS.get(row["planner"], row["planner"])
    return f"{text} +{row['redundant']}" if row["redundant"] else text
