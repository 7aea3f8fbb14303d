"""Is it worth placing experts anew while a model trains? Static against adaptive, and planning less often."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.published_placement_panels import PUBLISHED, published_figure
from moe_replay.figures.drawing.sheet import is_column, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME, ITERATIONS, LAYERS = "placement", "placement_iterations", "placement_layers"
STATIC, ADAPTIVE = "#A6A6A6", style.COLOURS[0]  # light and dark in grey too
HEAVIEST = "heaviest device ÷ mean"
KEY = (
    "Layers: circles were trained without balance loss, open squares with it. Moves: numbers are the iterations "
    "between plans; dotted: a plan is adopted only if it is {threshold} times better."
)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a row of panels per model; of a user's files of SmartMoE, the published points."""
    if not (tables.folder / f"{NAME}.csv").exists() and (tables.folder / f"{PUBLISHED}.csv").exists():
        return published_figure(tables)
    rows = tables.rows(NAME)
    models = list(rows.groupby(["set", "model"], sort=False)) if "device_max_over_mean" in rows else []
    figure, grid = panels(max(1, len(models)), 3, 2.3, widths=(1.15, 1, 1.15))
    numbers = tables.claim(NAME)["numbers"] if models else {}
    for (over, layers, intervals), ((name, _), own) in zip(grid, models, strict=False):
        found = {trace: numbers.get(f"{name} {trace}", {}) for trace in dict.fromkeys(own["trace"])}
        over_iterations(over, own, of(tables.rows(ITERATIONS), own), found)
        over_layers(layers, of(tables.rows(LAYERS), own))
        over_intervals(intervals, own, found)
    if models:
        style.key(figure, KEY.format(threshold=f"{rows['adopt_threshold'].max():g}"))
    else:
        for axes in grid[0]:
            style.hole(axes, tables.missing(NAME))
    style.headline(figure, gained(numbers))
    return figure


def gained(numbers: dict) -> str:
    """Return the claim: what placing anew gains in the training that is least even, and what planning seldom keeps."""
    known = [each for each in numbers.values() if isinstance(each, dict) and "seldom" in each]
    if not known:
        return ""
    told = max(known, key=lambda each: each["contiguous"])
    kept = (told["contiguous"] - told["seldom"]) / (told["contiguous"] - told["often"])
    return (
        f"Experts placed anew every {told['often_iterations']} iterations, the heaviest device has {told['often']:.2f} "
        f"times the mean load, in order {told['contiguous']:.2f} ({model_name(told['model'])}, "
        f"{trained(told['balance_loss'])}); every {told['seldom_iterations']} iterations keep {kept:.0%} of that for "
        f"{told['seldom_copies'] / told['often_copies']:.0%} of the moves"
    )


def of(table: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table that are of a model's load traces."""
    return table[(table["set"] == own["set"].iloc[0]) & (table["model"] == own["model"].iloc[0])]


def trained(balance_loss: float) -> str:
    """Return in words how a model was trained."""
    return "no balance loss" if balance_loss == 0 else "with balance loss"


def model_name(name: str) -> str:
    """Return a model's name as a reader knows it."""
    return {"byte-moe": "Byte language model"}.get(name, name.replace("switch-vit-cifar10", "Switch ViT, CIFAR-10"))


def over_iterations(axes: Axes, own: pd.DataFrame, rows: pd.DataFrame, found: dict[str, dict]) -> None:
    """Draw balance over training of the trace that is least balanced, static and adaptive, labelled at their ends."""
    trace = max(found, key=lambda name: found[name].get("contiguous", 0))
    told, rows = found[trace], rows[rows["trace"] == trace]
    often = rows["plan_interval"].max()
    for interval, colour, text in ((0, STATIC, "experts in order"), (often, ADAPTIVE, "placed anew")):
        line = rows[rows["plan_interval"] == interval]
        axes.plot(line["iteration"], line["device_max_over_mean"], color=colour, linewidth=0.9)
        level = told["contiguous"] if interval == 0 else told["often"]
        axes.annotate(
            f"{text}: {level:.2f}", (0.97, 1), (0, -10.0 * (interval > 0)), xycoords="axes fraction",
            textcoords="offset points", color=colour, ha="right", va="top", fontsize=style.SMALL,
        )  # fmt: skip
    axes.set_ylim(1, rows["device_max_over_mean"].quantile(0.995) * (1.5 if is_column() else 1.2))
    axes.set_title(
        f"{model_name(told['model'])},\n{trained(told['balance_loss'])}: {told['contiguous']:.2f} becomes "
        f"{told['often']:.2f}"
    )  # fmt: skip
    axes.set(xlabel="iteration of training", ylabel=HEAVIEST)


def over_layers(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw every layer's balance, static and adaptive, joined by a line; models by their training side by side."""
    marks = {"no balance loss": ("o", -0.13), "with balance loss": ("s", 0.13)}
    often = rows["plan_interval"].max()
    for _, own in rows.groupby("trace", sort=False):
        text = trained(own["balance_loss"].iloc[0])
        marker, shift = marks[text]
        static, adaptive = (
            own[own["plan_interval"] == interval].set_index("layer")["device_max_over_mean"] for interval in (0, often)
        )
        axes.vlines(static.index + shift, adaptive, static, color=style.LIGHT, linewidth=2, zorder=1)
        for level, colour in ((static, STATIC), (adaptive, ADAPTIVE)):
            hollow = "white" if marker == "s" else colour
            axes.plot(level.index + shift, level, marker, color=colour, markerfacecolor=hollow, markersize=4)
    axes.set_title("Every layer gains: in order\n(light), placed anew (dark)")
    axes.set(xlabel="MoE layer", ylabel=HEAVIEST, xticks=sorted(rows["layer"].unique()))
    axes.set_ylim(1, 1.04 * axes.get_ylim()[1])


def over_intervals(axes: Axes, own: pd.DataFrame, found: dict[str, dict]) -> None:
    """Draw balance against what is moved, a line per training, a point per interval, dotted with a threshold."""
    rules = own[(own["placement"] == "rebalanced") & (own["plan_interval"] > 0)]
    least, uneven = rules["adopt_threshold"].min(), max(found, key=lambda name: found[name]["contiguous"])
    for at, (trace, rows) in enumerate(rules.groupby("trace", sort=False)):
        look = style.look(at + 1)
        for threshold, line in rows.groupby("adopt_threshold"):
            x, y, plain = line["copies_per_1000_iterations"], line["device_max_over_mean"], threshold == least
            axes.plot(
                x, y, color=look["color"], marker=look["marker"], markersize=3.5, linewidth=1,
                linestyle="-" if plain else style.DOTTED, markerfacecolor=look["color"] if plain else "white",
            )  # fmt: skip
            for place in zip(line["iterations"], x, y, strict=True) if plain else ():
                style.note(axes, f"{place[0]:.0f}", place[1:], offset=(3, 2))
            if plain:
                above = trace == uneven
                place, ends = ((0.97, 0.97), ("right", "top")) if above else ((0.03, 0.04), ("left", "bottom"))
                named = {"color": look["color"], "fontsize": style.SMALL, "transform": axes.transAxes}
                axes.text(*place, trained(found[trace]["balance_loss"]), ha=ends[0], va=ends[1], **named)
    told = found[uneven]
    gain = (told["contiguous"] - told["seldom"]) / (told["contiguous"] - told["often"])
    moves = told["seldom_copies"] / told["often_copies"]
    axes.set_title(
        f"Every {told['seldom_iterations']} iterations: {100 * gain:.0f} % of\n"
        f"the gain, {100 * moves:.0f} % of the moves"
    )
    axes.set(xscale="log", xlabel="moves per layer, 1,000 iterations", ylabel=HEAVIEST)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.margins(x=0.12, y=0.12)
    axes.set_ylim(axes.get_ylim()[0] - 0.15 * (axes.get_ylim()[1] - axes.get_ylim()[0]))
