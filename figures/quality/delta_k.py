"""Does choosing K per sample beat a fixed K at equal mean K?"""

import pandas as pd
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.delta_k_panels import MARGIN_POINTS, accuracy_panel, forest_panel
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import legend_below, panels
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "delta_k"
WIDTHS = (1, 1.15)
KEY = (
    f"Differences are paired, with 95 % intervals; within the band, {MARGIN_POINTS} points, none counts. Diamonds were "
    "stated beforehand."
)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: one row per set; accuracy against mean K, and differences."""
    whole = tables.read(NAME)
    curves = tables.rows(f"{NAME}_curves")
    sets = list(dict.fromkeys(whole.get("set", []))) or ["no set"]
    figure, grid = panels(len(sets), len(WIDTHS), 2.9, 0.8, widths=WIDTHS, stacked=(0.55, 0.95))
    judged = whole[whole["model"].notna()] if "model" in whole else whole
    for (accuracy, forest), name in zip(grid, sets, strict=True):
        compared = of_set(tables.rows(NAME), name)
        if "model" not in compared or compared["model"].isna().all():
            accuracy.set_title(readable(name))
            style.hole(accuracy, tables.missing(NAME, name))
            forest.axis("off")
            continue
        compared = compared[compared["model"].notna()]
        accuracy_panel(accuracy, compared, of_set(curves, name))
        forest_panel(forest, compared, judged)
        for axes in (accuracy, forest):
            axes.set_title(f"{readable(name)}: {axes.get_title(loc='left')}", fontsize=style.SMALL)
        if tables.holes_of(name):
            style.hole(accuracy, tables.holes_of(name), beside_data=True)
    marks = [axes.get_legend_handles_labels() for axes in grid[:, 0]]
    legend_below(figure, *next((each for each in marks if each[0]), ([], [])), 2, KEY)
    style.headline(figure, verdicts(tables.rows(NAME)))
    return figure


def verdicts(rows: pd.DataFrame) -> str:
    """Return the claim: how many of the comparisons that were stated beforehand a K per sample wins."""
    if "primary" not in rows:
        return ""
    judged = list(rows.loc[rows["primary"].astype(str) == "True", "verdict"])
    return (
        f"Choosing K per sample beats a fixed K of equal mean in {judged.count('beats')} of {len(judged)} comparisons "
        f"(and loses {judged.count('loses')})"
    )


def of_set(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of one set."""
    return table[table["set"] == name] if "set" in table else table
