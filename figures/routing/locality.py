"""Which experts are active over time, how soon are they used again, and does that differ from random order?"""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_panels import trace_name
from moe_replay.figures.drawing.table_files import TableFiles

NAME = "locality"
COLUMNS = 4
ALL = "all"


def draw(tables: TableFiles) -> Figure:
    """Return the figure: heat over time, a row per trace that has it; then reuse, LRU hits and drift over all sets."""
    rows, heat = tables.rows(NAME), tables.rows(f"{NAME}_heat")
    hits, drift = tables.rows(f"{NAME}_hits"), tables.rows(f"{NAME}_drift")
    traces = list(heat.groupby(["set", "trace"], sort=False)) if "share" in heat else []
    figure, grid = plt.subplots(
        len(traces) + 1, COLUMNS, figsize=(15, 3.4 * len(traces) + 4.2), layout="constrained", squeeze=False
    )
    for row, (names, own) in zip(grid, traces, strict=False):
        heat_panels(row, trace_name(*names), own)
    if "reuse" not in rows or rows.empty:
        for axes in grid[-1]:
            style.hole(axes, tables.missing(NAME))
    else:
        whole = rows[(rows["layer"].astype(str) == ALL) & (rows["domain"] == ALL)]
        trace_panel(grid[-1][0], whole)
        layer_panel(grid[-1][1], rows)
        hits_panel(grid[-1][2], hits)
        drift_panel(grid[-1][3], drift)
    style.footer(figure, tables.footer())
    return figure


def heat_panels(row: np.ndarray, name: str, heat: pd.DataFrame) -> None:
    """Draw the share of every expert over time: first, middle and last layer as recorded, the middle one shuffled."""
    layers = sorted(heat["layer"].unique())
    middle = layers[len(layers) // 2]
    shown = [(layer, "recorded") for layer in (layers[0], middle, layers[-1])] + [(middle, "shuffled")]
    for axes, (layer, order) in zip(row, shown, strict=True):
        own = heat[(heat["layer"] == layer) & (heat["order"] == order)]
        domains = list(dict.fromkeys(own["domain"]))
        table = own.assign(at=own["domain"].map(domains.index) * (own["bin"].max() + 1) + own["bin"])
        image_EB = table.pivot(index="place", columns="at", values="share").to_numpy()
        drawn = axes.imshow(
            image_EB, aspect="auto", origin="lower", cmap="Greys", vmin=0, vmax=heat["share"].quantile(0.995)
        )
        axes.grid(False)
        bins = image_EB.shape[1] // len(domains)
        named = domains if len(domains) > 1 else []
        axes.set_xticks([bins * (index + 0.5) - 0.5 for index in range(len(named))], named)
        for edge in range(1, len(domains)):
            axes.axvline(edge * bins - 0.5, color=style.COLOURS[1], linewidth=1)
        title = "tokens in recorded order" if order == "recorded" else "control: tokens in random order"
        axes.set_title(f"{name}, layer {layer}\n{title}", fontsize="small")
        axes.set(xlabel="time, domain by domain" if named else "time", ylabel="expert, by use")
    row[0].figure.colorbar(drawn, ax=list(row), label="share of selections", shrink=0.8, pad=0.01)


def trace_panel(axes: Axes, whole: pd.DataFrame) -> None:
    """Draw reuse by the next token of every trace, recorded and shuffled."""
    axes.set_title("reuse by the next token (clips: the\nsame patch of the next frame)", fontsize="small")
    place = np.arange(len(whole))
    axes.bar(place - 0.2, 100 * whole["reuse"], 0.4, color=style.COLOURS[0], label="recorded order")
    axes.bar(
        place + 0.2, 100 * whole["reuse_shuffled"], 0.4, color=style.LIGHT, edgecolor=style.DARK, hatch="//",
        label="shuffled, exact mean",
    )  # fmt: skip
    axes.set_xticks(place, [label(row) for row in whole.to_dict("records")], fontsize="x-small", rotation=90)
    axes.set(ylabel="% of a token's experts", ylim=(0, 119))
    axes.legend(loc="upper left", ncols=2, fontsize="x-small")


def label(row: dict) -> str:
    """Return a trace's name and, in a second line, its size."""
    return f"{trace_name(row['set'], row['trace'])}\n{int(row['tokens']):,} tokens"


def layer_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw reuse over layers and domains of the trace with the most layers."""
    rows = rows[rows["layer"].astype(str) != ALL]
    source = rows.groupby(["set", "trace"])["layer"].nunique().sort_index().idxmax()
    own = rows[(rows["set"] == source[0]) & (rows["trace"] == source[1])]
    axes.set_title(f"{trace_name(*source)}: reuse by layer\nfull recorded, hollow shuffled", fontsize="small")
    domains = [name for name in dict.fromkeys(own["domain"]) if name != ALL] or [ALL]
    for index, domain in enumerate(domains):
        part, look = own[own["domain"] == domain], style.look(index)
        layers = part["layer"].astype(int)
        axes.plot(layers, 100 * part["reuse"], **look, label=domain)
        faint = {**look, "linestyle": style.DOTTED, "markerfacecolor": "none", "linewidth": 1}
        axes.plot(layers, 100 * part["reuse_shuffled"], **faint)
    axes.set(xlabel="layer", ylabel="% of a token's experts", ylim=(0, None))
    axes.legend(fontsize="x-small")


def hits_panel(axes: Axes, hits: pd.DataFrame) -> None:
    """Draw LRU's hit ratio against the share of experts that fit."""
    axes.set_title("LRU hits, emptied where a sequence starts\nfull recorded, hollow shuffled", fontsize="small")
    for index, (names, own) in enumerate(hits.groupby(["set", "trace"], sort=False)):
        look = {**style.look(index), "markevery": 4}
        for order, part in own.groupby("order", sort=False):
            faint = (
                {"linestyle": style.DOTTED, "markerfacecolor": "none", "linewidth": 1} if order == "shuffled" else {}
            )
            experts = part["slots"].max()
            axes.plot(100 * part["slots"] / experts, 100 * part["hit_ratio"], **{**look, **faint},
                      label=trace_name(*names) if order == "recorded" else None)  # fmt: skip
    axes.set(xlabel="expert slots per layer, % of the experts", ylabel="% of selections that hit")
    axes.legend(fontsize="x-small", loc="lower right")


def drift_panel(axes: Axes, drift: pd.DataFrame) -> None:
    """Draw how far apart the domains' popularities are in every layer, beside permuted sequences."""
    axes.set_title("difference between domains\nfull observed, hollow 95 % of permutations below", fontsize="small")
    if "divergence_bits" not in drift or drift.empty:
        style.absent(axes, "no trace has several domains")
        return
    for index, (names, own) in enumerate(drift.groupby(["set", "trace"], sort=False)):
        layers = own[own["layer"].astype(str) != ALL]
        p, look = own.loc[own["layer"].astype(str) == ALL, "p"].iloc[0], style.look(index)
        axes.plot(
            layers["layer"].astype(int), layers["divergence_bits"], **look, label=f"{trace_name(*names)}: p = {p:.3f}"
        )
        faint = {**look, "linestyle": style.DOTTED, "markerfacecolor": "none", "linewidth": 1}
        axes.plot(layers["layer"].astype(int), layers["permuted_95"], **faint)
    highest = drift["divergence_bits"].max()
    axes.set(xlabel="layer", ylabel="Jensen-Shannon divergence, bits", ylim=(0, 1.25 * highest))  # room for the legend
    axes.legend(fontsize="x-small", loc="upper left")
