"""How much more often than the optimum does a policy miss? A panel per trace, every selection an access."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.policy_looks import OPTIMA, label, look
from moe_replay.figures.drawing.set_panels import panels_of_traces, trace_name
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "miss_ratio"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: per trace the misses of every policy above the optimum's, against slots."""
    rows = tables.rows(NAME)
    flat = rows[rows["mode"] == "flat"] if "miss_ratio" in rows else rows.iloc[:0]
    said = "misses above the optimum\n(% of accesses), lower is better"
    figure = panels_of_traces(flat, panel, said, lambda: tables.missing(NAME))
    style.headline(figure, distance(tables.numbers(NAME)))
    return figure


def distance(numbers: dict) -> str:
    """Return the claim: the miss ratios of the best policy and of the optimum at half of the experts, first trace."""
    for name, found in numbers.items():
        known = {key: value for key, value in found.items() if key.startswith("flat ")}
        best = sorted((value, key) for key, value in known.items() if key.removeprefix("flat ") not in OPTIMA)
        if best and "flat belady" in known:
            trace = trace_name(*name.rsplit(" ", 1))
            return (
                f"With {found['slots']} slots per layer the best known policy, {label(best[0][1][5:])}, misses "
                f"{best[0][0]:.0%} of accesses, the optimum {known['flat belady']:.0%} ({trace})"
            )
    return ""


def panel(axes: Axes, trace: str, rows: pd.DataFrame) -> None:
    """Draw the distance of every policy from the optimum, which is the line at 0."""
    for policy, own in rows[~rows["policy"].isin(OPTIMA)].groupby("policy", sort=False):
        axes.plot(own["slots"], own["over_optimum_points"], label=label(policy), markevery=4, **look(policy))
    axes.axhline(0, color=style.DARK, **style.THEORY)
    axes.set_title(f"{trace}\nslots emptied: {', '.join(rows['emptied'].unique())}")
    axes.set_xlabel(f"expert slots per layer, of {rows['experts'].iloc[0]:.0f}")
    style.note(axes, "optimum", (1, 0), ("axes fraction", "data"), (-2, 3), "right")
