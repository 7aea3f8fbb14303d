"""Does choosing K per sample beat a fixed K at equal mean K?"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.delta_k_panels import accuracy_panel, forest_panel, histogram_panel, oracle_panel
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "delta_k"
WIDTHS = (1.05, 1.5, 0.95, 1.05)


def draw(tables: TableFiles) -> Figure:
    """Return the figure: one row per set; accuracy against mean K, differences, oracle and luck, who gets many."""
    whole = tables.read(NAME)
    parts = {part: tables.rows(f"{NAME}_{part}") for part in ("curves", "oracle", "histogram", "groups")}
    sets = list(dict.fromkeys(whole.get("set", []))) or ["no set"]
    figure = plt.figure(figsize=(15.5, 4.3 * len(sets) + 0.2), layout="constrained")
    rows = figure.subfigures(len(sets), 1, squeeze=False)[:, 0]
    for part, name in zip(rows, sets, strict=True):
        part.suptitle(name, x=0.01, ha="left", fontweight="bold")
        grid = part.subplots(1, len(WIDTHS), width_ratios=WIDTHS)
        own = {key: of_set(table, name) for key, table in parts.items()}
        compared = of_set(tables.rows(NAME), name)
        if "model" not in compared or compared["model"].isna().all():
            style.hole(grid[0], tables.missing(NAME, name))
            for axes in grid[1:]:
                axes.axis("off")
            continue
        compared = compared[compared["model"].notna()]
        accuracy_panel(grid[0], compared, own["curves"])
        forest_panel(grid[1], compared)
        oracle_panel(grid[2], own["oracle"])
        histogram_panel(grid[3], own["histogram"], own["groups"])
        if tables.holes_of(name):
            style.hole(grid[0], tables.holes_of(name), beside_data=True)
    style.footer(rows[-1], tables.footer())
    return figure


def of_set(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of one set."""
    return table[table["set"] == name] if "set" in table else table
