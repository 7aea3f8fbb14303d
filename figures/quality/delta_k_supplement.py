"""What would the best K per sample bring, what does luck alone, and who gets many experts?"""

import pandas as pd
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.delta_k_panels import histogram_panel, oracle_panel
from moe_replay.figures.drawing.set_names import readable
from moe_replay.figures.drawing.sheet import beside, legend_below, panels
from moe_replay.figures.drawing.table_files import TableFiles

TABLE = "delta_k"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: a row per set; the oracle beside luck, and the experts that right and wrong answers took."""
    whole = tables.read(TABLE)
    parts = {part: tables.rows(f"{TABLE}_{part}") for part in ("oracle", "histogram", "groups")}
    sets = [name for name in dict.fromkeys(whole.get("set", [])) if has(parts["oracle"], name)] or ["no set"]
    figure, grid = panels(len(sets), 2, 2.7)
    for (left, right), name in zip(grid, sets, strict=True):
        if not has(parts["oracle"], name):
            style.hole(left, tables.missing(TABLE))
            right.axis("off")
            continue
        oracle, histogram, groups = (table[table["set"] == name] for table in parts.values())
        oracle_panel(left, oracle)
        histogram_panel(right, histogram, groups)
        left.set_title(f"{readable(name)}\n{left.get_title(loc='left')}", fontsize=style.SMALL)
        right.set_title(beside(readable(name), right.get_title(loc="left")), fontsize=style.SMALL)
    legend_below(figure, *grid[0][0].get_legend_handles_labels())
    style.headline(figure, gap(parts["oracle"]))
    return figure


def has(table: pd.DataFrame, name: str) -> bool:
    """Say whether a table holds rows of a set."""
    return "set" in table and (table["set"] == name).any()


def gap(oracle: pd.DataFrame) -> str:
    """Return the claim: what the oracle and as many noisy tries reach, of the first set."""
    if "luck_percent" not in oracle or oracle.empty:
        return ""
    last = oracle[oracle["set"] == oracle["set"].iloc[0]].sort_values("tries").iloc[-1]
    return (
        f"An oracle that chooses among {last['tries']:.0f} K answers {last['oracle_percent']:.0f} % right; as many "
        f"noisy tries at one K reach {last['luck_percent']:.0f} % by luck ({last['set']})"
    )
