"""What a load trace looks like: model, shapes, load per expert, and how uneven it is in each iteration."""

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from moe_replay.traces.describe import experts_text, facts_table, heading, load_table, spread, table_of
from moe_replay.traces.load_trace import LoadTrace

SHOWN = 10  # iterations in the table


def max_over_mean_SL(loads: LoadTrace) -> np.ndarray:
    """Return the hottest expert's load over the mean of each layer in each iteration; NaN without selections."""
    load_SLE = loads.load_SRMLE.sum((1, 2))[:, :, : loads.model.real_experts]
    return np.stack([spread(load_LE).max_over_mean_L for load_LE in load_SLE])


def load_description(loads: LoadTrace, source: str) -> Group:
    """Return the tables that `describe` prints of a load trace."""
    return Group(
        Text(source, style="bold"),
        facts(loads),
        heading("Load", "selections per expert; one bar per expert, from the hottest, full height, to the coldest"),
        load_table(loads.model.layer_ids, loads.load_LE),
        heading("Imbalance", "load of a layer's hottest expert over the mean, over layers, ranks summed"),
        imbalance_table(loads),
    )


def counts_text(loads: LoadTrace) -> str:
    """Return the shape of the counts in words, and how many iterations have none."""
    names = ("iterations", "ranks", "microbatches", "layers", "experts")
    shape = " x ".join(f"{size:,} {name}" for size, name in zip(loads.load_SRMLE.shape, names, strict=True))
    empty = int((~loads.used_S).sum())
    return f"counts of {shape}" + (f"; {empty:,} of the iterations are empty: no selections" if empty else "")


def facts(loads: LoadTrace) -> Table:
    """Return what the load trace is."""
    model, numbers = loads.model, loads.iteration_S
    zero = (loads.load_SRMLE == 0).mean()
    apart = loads.load_SRMLE.sum() - loads.load_LE.sum()
    weightless = f", {apart:,} of them of experts without weights" if model.zero_experts else ""
    return facts_table({
        "model": f"{model.name}: {model.layers} MoE layers x {experts_text(model)}, {model.used_k} used per token",
        "kind": "counts only: no tokens, no order, no scores",
        "shape": f"{counts_text(loads)}; iterations {numbers[0]} to {numbers[-1]}",
        "selections": f"{loads.load_SRMLE.sum():,}{weightless}, {zero:.1%} of the counts are zero",
        "data": ", ".join(f"{key}: {value}" for key, value in loads.data.items() if value),
        "made by": " | ".join(f"{key}: {value}" for key, value in loads.provenance.items() if key != "packages"),
        "notes": " | ".join(f"{key}: {value}" for key, value in loads.notes.items()),
        "digest": loads.digest,
    })  # fmt: skip


def imbalance_table(loads: LoadTrace) -> Table:
    """Return the lowest, median and highest imbalance of the layers, for iterations spread over those with counts."""
    table = table_of("iteration", "lowest", "median", "highest")
    uneven_SL = max_over_mean_SL(loads)
    used = np.flatnonzero(loads.used_S)
    shown = np.unique(np.linspace(0, max(len(used) - 1, 0), SHOWN).round().astype(int))
    for at in used[shown] if used.size else []:
        known_L = uneven_SL[at][~np.isnan(uneven_SL[at])]
        values = (known_L.min(), np.median(known_L), known_L.max())
        table.add_row(str(loads.iteration_S[at]), *(f"{value:.2f}" for value in values))
    return table
