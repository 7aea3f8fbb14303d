"""What does an expert's batch cost at the layer shapes of published models? A row of panels per device."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import is_column, legend_below, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "layer_costs"
DIVIDED = "÷: both widths of every shape were divided before it was measured."
PANELS = ("an expert's batch alone\n(dotted: in the executor's loop)", "time per token\n(bar: where it breaks even)",
          "a step of all experts, per expert\n(dotted: one after another)")  # fmt: skip


def draw(tables: TableFiles) -> Figure:
    """Return the figure: times against tokens per expert, one curve per shape."""
    rows = tables.rows(NAME)
    sets = list(dict.fromkeys(rows["set"])) if "form" in rows else []
    count, models = max(1, len(sets)), list(dict.fromkeys(map(model_of, rows["shape"]))) if sets else []
    figure, grid = panels(count, len(PANELS), 2.4, 0.9)
    for (alone, per_token, step), name in zip(grid, sets, strict=False):
        own = rows[rows["set"] == name]
        shapes = {shape: style.look(models.index(model_of(shape))) for shape in dict.fromkeys(own["shape"])}
        for axes, title in zip((alone, per_token, step), PANELS, strict=True):
            words = title.replace("\n", " ") if is_column() else title
            by = divisor(own)
            axes.set_title(f"{readable(name)}{f' (÷ {by})' if by else ''}\n{words}", fontsize=style.SMALL)
        quickest = "event" if (own["form"] == "event").any() else "wall"
        curves(alone, own, shapes, (quickest, "loop"), "expert_us")
        curves(per_token, own, shapes, (quickest,), "token_us")
        mark_break_even(per_token, own[own["form"] == quickest], shapes)
        curves(step, own, shapes, ("grouped", "looped"), "expert_us")
        finish(alone, "us per batch")
        finish(per_token, "us per token")
        finish(step, "us per expert")
        if not (own["form"] == "grouped").any():
            style.note(step, "no grouped product here", (0.02, 1), "axes fraction", (0, -9))
    marks = [Line2D([], [], **style.look(index), label=model) for index, model in enumerate(models)]
    divided = any(divisor(rows[rows["set"] == name]) for name in sets)
    legend_below(figure, marks, most=5, said=DIVIDED if divided else "")
    if not sets:
        for axes in grid[0]:
            style.hole(axes, tables.missing(NAME))
    style.headline(figure, least_and_most(tables.numbers(NAME)))
    return figure


def model_of(shape: str) -> str:
    """Return the model whose layer a shape is, or is a part of (`olmoe-by-16`)."""
    return shape.partition("-by-")[0]


def divisor(rows: pd.DataFrame) -> str:
    """Return by what the widths of a set's shapes were divided before they were measured; empty where they were not."""
    by = {shape.partition("-by-")[2] for shape in rows["shape"]}
    return by.pop() if len(by) == 1 else ""


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
    """Mark on each curve of times per token where it breaks even; the least and the most in words."""
    for shape, own in rows.groupby("shape", sort=False):
        at, value = own[["break_even_tokens", "break_even_token_us"]].iloc[0]
        axes.plot(at, value, "|", color=shapes[shape]["color"], markersize=14, markeredgewidth=2)
    even = rows["break_even_tokens"].dropna()
    if len(even):
        most = f" to {even.max():,.0f}" if even.max() > even.min() else ""
        text = f"breaks even at\n{even.min():,.0f}{most} tokens"
        style.note(axes, text, (0, 0), "axes fraction", (4, 4))


def finish(axes: Axes, label: str) -> None:
    """Make both axes logarithmic, with plain numbers."""
    axes.set(xscale="log", yscale="log", xlabel="tokens per expert", ylabel=label)
    axes.set_xscale("log", base=4)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    style.log_axis(axes.yaxis)
