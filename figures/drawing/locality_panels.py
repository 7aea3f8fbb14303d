"""The panels of the locality figures: heat over time beside its control, reuse by layer, drift between domains."""

import pandas as pd
from matplotlib.axes import Axes

from moe_replay.figures.drawing import style
from moe_replay.figures.drawing.set_panels import trace_name

ALL = "all"


def heat_panel(axes: Axes, name: str, heat: pd.DataFrame, order: str) -> None:
    """Draw the share of every expert over time in the middle layer, as recorded or as the shuffled control."""
    layers = sorted(heat["layer"].unique())
    layer = layers[len(layers) // 2]
    own = heat[(heat["layer"] == layer) & (heat["order"] == order)]
    domains = list(dict.fromkeys(own["domain"]))
    table = own.assign(at=own["domain"].map(domains.index) * (own["bin"].max() + 1) + own["bin"])
    image_EB = table.pivot(index="place", columns="at", values="share").to_numpy()
    most = heat["share"].quantile(0.995)
    drawn = axes.imshow(image_EB, aspect="auto", origin="lower", cmap="Greys", vmin=0, vmax=most)
    axes.grid(False)
    bins = image_EB.shape[1] // len(domains)
    named = domains if len(domains) > 1 else []
    axes.set_xticks([bins * (index + 0.5) - 0.5 for index in range(len(named))], named)
    for edge in range(1, len(domains)):
        axes.axvline(edge * bins - 0.5, color=style.COLOURS[1], linewidth=1)
    title = "recorded order" if order == "recorded" else "control, random order"
    axes.set_title(f"{name}, layer {layer}\n{title}")
    axes.set(xlabel="time, domain by domain" if named else "time", ylabel="expert, by use")
    axes.figure.colorbar(drawn, ax=axes, label="share of selections", pad=0.02)


def layer_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """Draw reuse over layers and domains of the trace with the most layers."""
    rows = rows[rows["layer"].astype(str) != ALL]
    source = rows.groupby(["set", "trace"])["layer"].nunique().sort_index().idxmax()
    own = rows[(rows["set"] == source[0]) & (rows["trace"] == source[1])]
    axes.set_title(
        f"{trace_name(*source)}: reuse by layer\nfull: recorded; hollow: control, shuffled", fontsize=style.SMALL
    )
    domains = [name for name in dict.fromkeys(own["domain"]) if name != ALL] or [ALL]
    for index, domain in enumerate(domains):
        part, look = own[own["domain"] == domain], style.look(index)
        layers = part["layer"].astype(int)
        axes.plot(layers, 100 * part["reuse"], **look, label=domain)
        faint = {**look, "linestyle": style.DOTTED, "markerfacecolor": "none", "linewidth": 1}
        axes.plot(layers, 100 * part["reuse_shuffled"], **faint)
    axes.set(xlabel="layer", ylabel="% of a token's experts", ylim=(0, None))
    axes.set_ylim(top=1.35 * axes.get_ylim()[1])
    axes.legend(loc="upper left", ncols=len(domains), columnspacing=0.8)


def drift_panel(axes: Axes, drift: pd.DataFrame) -> None:
    """Draw how far apart the domains' popularities are in every layer, beside permuted sequences."""
    axes.set_title(
        "difference between domains; hollow: control,\n95 % of permuted sequences lie below", fontsize=style.SMALL
    )
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
    axes.set(xlabel="layer", ylabel="divergence (bits)", ylim=(0, 1.65 * highest))  # room for the legend
    axes.legend(loc="upper left", borderaxespad=0.1)
