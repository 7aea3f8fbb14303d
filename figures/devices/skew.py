"""What does skew cost in a served layer? A panel per layer and tokens of a step: its time against devices."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.sheet import flow, legend_below
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "skew"
MOST = 6  # panels
BALANCED, RECORDED = "balanced", "recorded"
LAWS = {"power_law_1.01": "power law 1.01", "power_law_1.2": "power law 1.2"}
MODELS = {"experts_us": "cluster model, balanced", "roofline_us": "cluster model at the roofline"}


def draw(tables: TableFiles) -> Figure:
    """Return the figure: measured times as lines, those by the rule as crosses, models of balanced steps dotted.

    A cross reaches as far as the rule is off on the measured power laws of the same tokens and devices.
    """
    rows = tables.rows(NAME)
    fine = rows[rows["status"] == "ok"] if "layer_us" in rows else rows.iloc[:0]
    layers = list(fine.groupby(["served", "step_tokens"], sort=False))[:MOST] if len(fine) else []
    figure, panels = flow(len(layers), 2, 2.3, 0.9)
    found: dict = {}
    for axes, ((served, tokens), own) in zip(panels, layers, strict=False):
        panel(axes, own)
        axes.set_title(f"{served}\n{tokens:,.0f} tokens a step")
        found |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    legend_below(figure, list(found.values()), list(found), 3)
    style.headline(figure, dearest(tables.numbers(NAME)) if layers else "")
    if not layers or tables.holes:
        style.hole(panels[0], tables.missing(NAME), beside_data=bool(layers))
    return figure


def panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw one layer at one number of tokens."""
    for at, (spread, name) in enumerate({BALANCED: "balanced (measured)", **LAWS}.items()):
        own = rows[(rows["spread"] == spread) & rows["trace"].isna()]
        axes.plot(own["devices"], own["layer_us"], label=name, **style.look(at))
    for at, (trace, own) in enumerate(rows[rows["spread"] == RECORDED].groupby("trace", sort=False), len(LAWS) + 1):
        colour, shift = style.look(at)["color"], 1.03 ** (2 * (at % 2) - 1)  # beside each other, not on each other
        axes.errorbar(
            own["devices"] * shift, own["layer_us"], yerr=reach(rows, own), linestyle="none", marker="x+"[at % 2],
            color=colour, markersize=6, linewidth=1, label=f"{trace} (by a rule)",
        )  # fmt: skip
    balanced = rows[rows["spread"] == BALANCED]
    for (name, label), grey in zip(MODELS.items(), (style.DARK, style.MIDDLE), strict=True):
        if name in balanced and balanced[name].notna().any():
            axes.plot(balanced["devices"], balanced[name], color=grey, label=label, **style.THEORY)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    style.log_axis(axes.yaxis)
    devices = sorted(set(rows["devices"].astype(int)))
    axes.set_xticks(devices, [str(each) for each in devices])
    axes.minorticks_off()
    axes.set(xlabel="devices that the experts are split over", ylabel="us a layer (lower is better)")


def reach(rows: pd.DataFrame, own: pd.DataFrame) -> list[list[float]]:
    """Return how far below and above each time of a trace the rule's errors on power laws reach."""
    found: list[list[float]] = [[], []]
    for row in own.to_dict("records"):
        there = rows[(rows["devices"] == row["devices"]) & rows["spread"].isin(LAWS)]
        low_us, high_us = (
            row["layer_us"] / (1 + pick(0, error) / 100)
            for pick, error in ((max, there["rule_error_percent"].max()), (min, there["rule_error_percent"].min()))
        )
        found[0].append(row["layer_us"] - low_us)
        found[1].append(high_us - row["layer_us"])
    return found


def dearest(numbers: dict) -> str:
    """Return the headline: what the layer whose skew costs most shows."""
    if not numbers:
        return ""
    name, found = max(numbers.items(), key=lambda each: each[1]["laws"][1])
    words = (
        f"Power laws make a layer of {name} up to {found['laws'][1]:.2f} times as long on {found['devices']} devices"
    )
    return words + (
        f", a language model's selections up to {found['trace_over']:.2f} (by a rule)" if found["trace"] else ""
    )
