"""Does choosing K per sample beat a fixed K at equal mean K?"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.delta_k_panels import accuracy_panel, forest_panel
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.set_panels import legend_below
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "delta_k"
WIDTHS = (1, 1.15)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: one row per set; accuracy against mean K, and differences."""
    whole = tables.read(NAME)
    curves = tables.rows(f"{NAME}_curves")
    sets = list(dict.fromkeys(whole.get("set", []))) or ["no set"]
    figure = plt.figure(figsize=(style.PAGE, 3.1 * len(sets) + 0.4), layout="constrained")
    rows = figure.subfigures(len(sets), 1, squeeze=False)[:, 0]
    judged = whole[whole["model"].notna()] if "model" in whole else whole
    for part, name in zip(rows, sets, strict=True):
        part.suptitle(readable(name), x=0.01, ha="left", fontsize=style.FONT)
        grid = part.subplots(1, len(WIDTHS), width_ratios=WIDTHS)
        compared = of_set(tables.rows(NAME), name)
        if "model" not in compared or compared["model"].isna().all():
            style.hole(grid[0], tables.missing(NAME, name))
            for axes in grid[1:]:
                axes.axis("off")
            continue
        compared = compared[compared["model"].notna()]
        accuracy_panel(grid[0], compared, of_set(curves, name))
        forest_panel(grid[1], compared, judged)
        if tables.holes_of(name):
            style.hole(grid[0], tables.holes_of(name), beside_data=True)
    accuracy = [part.axes[0] for part in rows if part.axes[0].get_legend_handles_labels()[0]]
    if accuracy:
        legend_below(figure, accuracy[0], 2)
    style.headline(figure, verdicts(tables.rows(NAME)))
    return figure


def verdicts(rows: pd.DataFrame) -> str:
    """Return the claim: how many of the comparisons that were stated beforehand a K per sample wins."""
    if "primary" not in rows:
        return ""
    judged = list(rows.loc[rows["primary"].astype(str) == "True", "verdict"])
    return (
        f"Choosing K per sample beats a fixed K of equal mean in {judged.count('beats')} of {len(judged)} comparisons "
        f"(it loses {judged.count('loses')})"
    )


def of_set(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of one set."""
    return table[table["set"] == name] if "set" in table else table
