"""What does an expert's batch cost at the layer shapes of published models? A row of panels per device."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "layer_costs"
PANELS = ("an expert's batch alone;\ndotted: in the executor's loop", "time per token;\nbar: where it breaks even",
          "a step of all experts, per expert;\ndotted: one after another")  # fmt: skip


def draw(tables: TableFiles) -> Figure:
    """Return the figure: times against tokens per expert, one curve per shape."""
    rows = tables.rows(NAME)
    sets = list(dict.fromkeys(rows["set"])) if "form" in rows else []
    count = max(1, len(sets))
    figure, grid = plt.subplots(
        count, len(PANELS), figsize=(style.PAGE, 2.7 * count + 0.3), layout="constrained", squeeze=False
    )
    for (alone, per_token, step), name in zip(grid, sets, strict=False):
        own = rows[rows["set"] == name]
        shapes = {shape: style.look(index) for index, shape in enumerate(dict.fromkeys(own["shape"]))}
        for axes, title in zip((alone, per_token, step), PANELS, strict=True):
            axes.set_title(f"{readable(name)}\n{title}", fontsize=style.SMALL)
        quickest = "event" if (own["form"] == "event").any() else "wall"
        curves(alone, own, shapes, (quickest, "loop"), "expert_us")
        curves(per_token, own, shapes, (quickest,), "token_us")
        mark_break_even(per_token, own[own["form"] == quickest], shapes)
        curves(step, own, shapes, ("grouped", "looped"), "expert_us")
        finish(alone, "us per batch")
        finish(per_token, "us per token")
        finish(step, "us per expert")
        alone.legend(fontsize=style.SMALL - 0.5, handlelength=1.2, borderaxespad=0.1)
        if not (own["form"] == "grouped").any():
            style.note(step, "no grouped product here", (0.98, 0.02), "axes fraction", (0, 2), "right")
    if not sets:
        for axes in grid[0]:
            style.hole(axes, tables.missing(NAME))
    style.headline(figure, least_and_most(tables.numbers(NAME)))
    return figure


def least_and_most(numbers: dict) -> str:
    """Return the claim: what the cheapest and the dearest shape take for the smallest batch, device by device."""
    said = []
    for name, shapes in numbers.items():
        times = sorted(each["first_us"] for each in shapes.values() if isinstance(each, dict) and "first_us" in each)
        if times:
            said.append(f"{times[0]:.0f} to {times[-1]:.0f} us ({name})")
    return f"An expert's batch of one token takes {' and '.join(said)}" if said else ""


def curves(axes: Axes, rows: pd.DataFrame, shapes: dict[str, dict], forms: tuple[str, ...], value: str) -> None:
    """Draw one curve per shape and form, with quartiles where they are drawn at all; the second form is dotted."""
    for shape, look in shapes.items():
        for at, form in enumerate(forms):
            own = rows[(rows["shape"] == shape) & (rows["form"] == form)].sort_values("tokens")
            if own.empty:
                continue
            dotted = {"linestyle": style.DOTTED, "markerfacecolor": "none", "linewidth": 1} if at else {}
            axes.plot(own["tokens"], own[value], **{**look, **dotted}, label=None if at else shape)
            if value == "expert_us" and not at:
                quartiles = own["lower_quartile_us"], own["upper_quartile_us"]
                axes.fill_between(own["tokens"], *quartiles, color=look["color"], alpha=0.2, linewidth=0)


def mark_break_even(axes: Axes, rows: pd.DataFrame, shapes: dict[str, dict]) -> None:
    """Mark on each curve of times per token where it breaks even, with the number."""
    for shape, own in rows.groupby("shape", sort=False):
        at, value = own[["break_even_tokens", "break_even_token_us"]].iloc[0]
        axes.plot(at, value, "|", color=shapes[shape]["color"], markersize=14, markeredgewidth=2)
        style.note(axes, f"{at:,.0f}", (at, value), offset=(4, 5))


def finish(axes: Axes, label: str) -> None:
    """Make both axes logarithmic, with plain numbers."""
    axes.set(xscale="log", yscale="log", xlabel="tokens per expert", ylabel=label)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    style.log_axis(axes.yaxis)
