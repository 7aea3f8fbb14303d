"""The panels of the figure delta_k: accuracy against mean K, the forest of differences, oracle and luck, who gets many.

A dynamic point is named `model + rule` where the rule was applied afterwards, and by its model where that was trained
with it. Diamonds are the comparisons that were stated beforehand, hollow circles are all others.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.sheet import is_column

MARGIN_POINTS = 0.3  # as analysis judged by
TRAINED_FIXED = "trained at fixed k"
EQUAL_TIME = "equal time"
BASELINES = ("same weights", TRAINED_FIXED, "shuffled", EQUAL_TIME)
MOST_K = 4.0  # of the first panel: beyond it curves are flat and no point lies
DIFFERENCE = "wrong - right"


def series_name(row: dict | pd.Series) -> str:
    """Return what a dynamic point is called."""
    if row["model"] == row["rule"]:
        return f"trained with {row['rule']}"
    return f"{row['model']} + {row['rule']}"


def primary_points(compared: pd.DataFrame) -> pd.DataFrame:
    """Return the primary comparisons."""
    return compared[compared["primary"].astype(bool)]


def accuracy_panel(axes: Axes, compared: pd.DataFrame, curves: pd.DataFrame) -> None:
    """Draw fixed K as lines and the primary rules at every target as points, with 95 % intervals."""
    primary = primary_points(compared).drop_duplicates("model")
    swept = [f"{model} at k" for model in primary["model"] if model.startswith("fixed-")]
    for index, curve in enumerate([TRAINED_FIXED, *swept]):
        rows = curves[(curves["curve"] == curve) & (curves["k"] <= MOST_K)]
        look = style.look(index) | {"markerfacecolor": "none", "color": (style.DARK, style.MIDDLE)[index]}
        label = "trained at each fixed k" if curve == TRAINED_FIXED else f"{curve.removesuffix(' at k')} at fixed k"
        bars(axes, rows, "k", look, label, shift=-0.03 if index else 0.03)
    for index, row in enumerate(primary.to_dict("records")):
        rows = compared[(compared["model"] == row["model"]) & (compared["rule"] == row["rule"])
                        & (compared["how"] == "rule")].drop_duplicates("target_k")  # fmt: skip
        look = style.look(index + 2) | {"color": style.COLOURS[index], "linestyle": "none", "markersize": 6}
        bars(axes, rows, "mean_k", look, f"{series_name(row)}: K per sample", shift=0.03 - 0.06 * index)
    axes.set_xlim(0.8, MOST_K + 0.2)
    axes.set_xlabel("mean experts per sample and layer")
    axes.set_ylabel("accuracy (%), higher is better")
    axes.set_title("accuracy against mean K", fontsize=style.SMALL)


def bars(axes: Axes, rows: pd.DataFrame, x: str, look: dict, label: str, shift: float) -> None:
    """Draw one series with its intervals, moved aside a little so that intervals do not hide each other."""
    high = rows["accuracy_percent_high"] - rows["accuracy_percent"]
    low = rows["accuracy_percent"] - rows["accuracy_percent_low"]
    axes.errorbar(rows[x] + shift, rows["accuracy_percent"], [low, high], **look, label=label, capsize=2, elinewidth=1)


def forest_rows(compared: pd.DataFrame) -> pd.DataFrame:
    """Return what the forest shows: the primary points against everything, then the other rules at their target."""
    primary = primary_points(compared)
    target = compared[(compared["how"] == "rule") & compared["target_k"].isin(primary["target_k"])]
    target = target[target["status"].isin(["ok", "skipped"])]
    own = [target[(target["model"] == row["model"]) & (target["rule"] == row["rule"])]
           for row in primary.drop_duplicates("model").to_dict("records")]  # fmt: skip
    shown = pd.concat(own)
    shown = shown.assign(place=shown["baseline"].map(BASELINES.index), group=series_name_of(shown))
    beside = target[~target.index.isin(shown.index) & (target["baseline"] == BASELINES[0])]
    beside = beside.assign(place=0, group=series_name_of(beside))
    return pd.concat([shown, beside])


def series_name_of(rows: pd.DataFrame) -> list[str]:
    """Return the names of the dynamic points of some rows."""
    return [series_name(row) for row in rows.to_dict("records")]


def forest_panel(axes: Axes, compared: pd.DataFrame, of_all_sets: pd.DataFrame) -> None:
    """Draw paired differences with their intervals, over the band within which a difference does not count.

    All sets have one scale, so that their differences can be compared.
    """
    rows = forest_rows(compared)
    set_scale(axes, forest_rows(of_all_sets))
    axes.axvspan(-MARGIN_POINTS, MARGIN_POINTS, color=style.LIGHT, linewidth=0)
    axes.axvline(0, color=style.DARK, linewidth=0.8)
    labels: dict[float, str] = {}
    height = 0.0
    for number, group in enumerate(dict.fromkeys(rows["group"])):
        own = rows[rows["group"] == group].sort_values("place").to_dict("records")
        headed = len(own) > 1 or is_column()
        if headed:
            labels[height] = group
            height -= 1
        for row in own:
            forest_row(axes, row, height, style.COLOURS[number] if number < 2 else style.MIDDLE)
            labels[height] = f"{'' if headed else group + ' '}vs {row['baseline']}{at_equal_time(row)}"
            height -= 1
        height -= 0.4
    for tick, group in zip(axes.set_yticks(list(labels), list(labels.values())), labels.values(), strict=True):
        tick.label1.set_fontweight("normal" if "vs " in group else "bold")
    axes.set_ylim(height + 0.6, 0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("points above the baseline")
    axes.set_title("K per sample - fixed K (mean 2)", fontsize=style.SMALL)


def set_scale(axes: Axes, rows: pd.DataFrame) -> None:
    """Fit x to the comparisons at equal mean K; those at equal time may lie far outside and are then told in words."""
    ends = rows.loc[rows["baseline"] != EQUAL_TIME, ["difference_points_low", "difference_points_high"]]
    axes.set_xlim(min(-0.6, 1.1 * ends.min(axis=None)), max(0.6, 1.1 * ends.max(axis=None)))


def at_equal_time(row: dict) -> str:
    """Return at which k the baseline was read, where it is not the point's own mean K."""
    return f" (k = {row['baseline_k']:.1f})" if row["baseline"] == EQUAL_TIME and row["baseline_k"] > 0 else ""


def forest_row(axes: Axes, row: dict, height: float, colour: str) -> None:
    """Draw one difference with its verdict; in words where it lies outside the scale or there is none."""
    low, middle, high = (row[f"difference_points{end}"] for end in ("_low", "", "_high"))
    beside = {"at": (1.01, height), "coordinates": axes.get_yaxis_transform(), "offset": (0, -3)}
    if row["status"] != "ok":
        style.note(axes, f"none: {row['reason'].split(' lies ')[0]}", **beside)
        return
    least, most = axes.get_xlim()
    if low < least or high > most:
        interval = "" if is_column() else f" ({low:+.1f} to {high:+.1f})"
        style.note(axes, f"{told(row['verdict'], low, high)}: {middle:+.1f}{interval}", **beside)
        axes.plot([most if high > most else least], [height], color=colour, marker=">" if high > most else "<")
        return
    axes.errorbar(
        [middle], [height], xerr=[[middle - low], [high - middle]], color=colour, capsize=2.5,
        marker="D" if row["primary"] else "o", markerfacecolor=colour if row["primary"] else "white",
        markersize=6 if row["primary"] else 5, linewidth=2 if row["primary"] else 1.2,
    )  # fmt: skip
    style.note(axes, told(row["verdict"], low, high), **beside)


def told(verdict: str, low: float, high: float) -> str:
    """Return a verdict in words; one that is undecided says so of the margin where the sign itself is clear."""
    if verdict == "undecided" and (low > 0 or high < 0):
        return f"{'better' if low > 0 else 'worse'}; by {MARGIN_POINTS}: open"
    return verdict


def oracle_panel(axes: Axes, oracle: pd.DataFrame) -> None:
    """Draw the share of samples that some of n tries answer right: by k = 1..n, and by n noisy tries at one k."""
    labels = {"oracle": "oracle: some k of 1..n", "luck": "luck: some of n noisy tries", "fixed": "k = n alone"}
    for index, (column, label) in enumerate(labels.items()):
        look = style.look(index) | ({"color": style.DARK} if column == "fixed" else {})
        axes.plot(oracle["tries"], oracle[f"{column}_percent"], **look, markersize=3.5, label=label)
        axes.fill_between(
            oracle["tries"], oracle[f"{column}_percent_low"], oracle[f"{column}_percent_high"], color=look["color"],
            alpha=0.15, linewidth=0,
        )  # fmt: skip
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("tries n")
    axes.set_ylabel("samples answered right (%)")
    axes.set_title("the oracle, and what luck alone gives\n(shaded: 95 % over seeds)", fontsize=style.SMALL)


def histogram_panel(axes: Axes, histogram: pd.DataFrame, groups: pd.DataFrame) -> None:
    """Draw how many experts right and wrong answers took under the first primary rule, with each class's mean K."""
    first = groups.iloc[0]
    own, means = (table[(table["model"] == first["model"]) & (table["rule"] == first["rule"])]
                  for table in (histogram, groups))  # fmt: skip
    steps = np.arange(own["k"].min(), own["k"].max() + 0.125, 0.25)
    for index, group in enumerate(("right", "wrong")):
        share = own[own["group"] == group].set_index("k")["share_percent"].reindex(steps, fill_value=0)
        mean_k = means.loc[means["group"] == group, "mean_k"].iloc[0]
        look = {"color": style.COLOURS[index], "linestyle": style.DASHES[index]}
        edges = np.append(steps - 0.125, steps[-1] + 0.125)
        axes.stairs(share.to_numpy(), edges, **look, linewidth=1.6, label=f"{group} answers, mean {mean_k:.2f}")
    class_marks(axes, means[means["group"].str.startswith("class")])
    over = means[means["group"] == DIFFERENCE].iloc[0]
    axes.set_xlabel("experts per layer that a sample took")
    axes.set_ylabel("share of answers (%)")
    interval = f"{over['mean_k']:+.2f} ({over['mean_k_low']:+.2f} to {over['mean_k_high']:+.2f})"
    axes.set_title(
        f"{series_name(first)}: who gets many experts\nmean K, wrong - right: {interval}", fontsize=style.SMALL
    )
    axes.legend(loc="upper right")


def class_marks(axes: Axes, classes: pd.DataFrame) -> None:
    """Mark each class's mean K below the histogram, the least and the greatest named."""
    highest = axes.get_ylim()[1]
    axes.set_ylim(-0.12 * highest, 1.35 * highest)  # room for the marks below and the legend above
    axes.axhline(0, color=style.DARK, linewidth=0.6)
    height = axes.get_ylim()[0] / 2
    axes.plot(classes["mean_k"], [height] * len(classes), color=style.DARK, marker="|", markersize=7, linestyle="none",
              label="mean of each class")  # fmt: skip
    ordered = classes.sort_values("mean_k")
    for place, ha, offset in ((0, "right", (-4, -3)), (-1, "left", (4, -3))):
        row = ordered.iloc[place]
        style.note(axes, row["group"], (row["mean_k"], height), offset=offset, ha=ha)
