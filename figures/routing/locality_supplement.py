"""Where in a model are experts used again, and do domains differ? Heat of the other traces, layers, drift."""

import pandas as pd
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.locality_panels import drift_panel, heat_panel, layer_panel
from moe_replay.figures.drawing.set_panels import trace_name
from moe_replay.figures.drawing.sheet import flow
from moe_replay.figures.drawing.table_files import TableFiles

TABLE = "locality"
MOST_HEAT = 4  # panels of heat: with the two others they make six


def draw(tables: TableFiles) -> Figure:
    """Return the figure: recorded heat of the traces after the first, reuse by layer, drift between domains."""
    rows, heat, drift = (tables.rows(f"{TABLE}{part}") for part in ("", "_heat", "_drift"))
    if "reuse" not in rows or rows.empty:
        figure, panels = flow(1, 1, 2.3)
        style.hole(panels[0], tables.missing(TABLE))
        return figure
    traces = list(heat.groupby(["set", "trace"], sort=False))[1 : 1 + MOST_HEAT] if "share" in heat else []
    figure, panels = flow(len(traces) + 2, 2, 2.1)
    for axes, (names, own) in zip(panels, traces, strict=False):
        heat_panel(axes, trace_name(*names), own, "recorded")
    layer_panel(panels[-2], rows)
    drift_panel(panels[-1], drift)
    style.headline(figure, apart(drift))
    return figure


def apart(drift: pd.DataFrame) -> str:
    """Return the claim: how far apart domains are over all layers, of the first trace that has several."""
    if "divergence_bits" not in drift or drift.empty:
        return ""
    row = drift[drift["layer"].astype(str) == "all"].iloc[0]
    return (
        f"Domains use experts {row['divergence_bits']:.3f} bits apart, {row['permuted_mean']:.3f} where sequences are "
        f"permuted ({trace_name(row['set'], row['trace'])})"
    )
