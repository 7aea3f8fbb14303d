"""A bare trace, or one of loads, as a result: how evenly experts are used, and how often one is used again."""

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.results.result import LOADS, TRACE, Result, percent, plain, times
from moe_replay.traces.describe import default_k, load_LE, reuse, spread
from moe_replay.traces.describe_loads import max_over_mean_SL
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.load_trace import read_loads
from moe_replay.traces.routes import routed_tokens, uncomputed
from moe_replay.traces.selections import Trace

FOLDED = 64  # points of time in the table of a load trace


def trace_results(path: Path, name: str) -> list[Result]:
    """Return two tables of the trace in a file: selections of every expert, and layers with their reuse."""
    trace = load_trace(path)
    k = default_k(trace)
    layers = layer_table(trace, k)
    header = trace.header
    facts = (
        f"{trace.T:,} tokens of {trace.S:,} sequences in {len(trace.passes):,} passes; {header.model.name}: "
        f"{trace.L} MoE layers of {header.model.experts} experts, {k} counted per token; data "
        f"{header.data.get('name') or 'not said'}, device {header.device}."
    )
    return [
        Result(
            TRACE, name, expert_table(trace, k), about="selections", axes=("layer", "expert"), made=header.provenance,
            findings=(facts, *load_findings(layers)), doubts=tuple(doubts(trace)),
        ),
        Result(
            TRACE, f"{name}: layers", layers, about="layers", axes=("layer",), made=header.provenance,
            findings=tuple(reuse_findings(layers)),
        ),
    ]  # fmt: skip


def expert_table(trace: Trace, k: int) -> pd.DataFrame:
    """Return the selections of every expert of every layer, and how many times the layer's mean that is."""
    counts_LE = load_LE(trace, k)
    with np.errstate(invalid="ignore", divide="ignore"):
        over_LE = counts_LE / counts_LE.mean(1, keepdims=True)
    layers, experts = np.indices(counts_LE.shape)
    ids = np.array(trace.header.model.layer_ids)
    return pd.DataFrame({
        "layer": ids[layers.ravel()], "expert": experts.ravel(), "selections": counts_LE.ravel(),
        "over_mean": over_LE.ravel(),
    })  # fmt: skip


def layer_table(trace: Trace, k: int) -> pd.DataFrame:
    """Return the spread of load of every layer beside a uniform choice, and reuse beside independent tokens."""
    counts_LE = load_LE(trace, k)
    spread_L, reuse_L, tokens_L = spread(counts_LE), reuse(trace, k), routed_tokens(trace)
    chosen_L = counts_LE.sum(1) / np.maximum(tokens_L, 1) / counts_LE.shape[1]  # the chance of an expert to be selected
    with np.errstate(invalid="ignore", divide="ignore"):
        uniform_L = np.sqrt((1 - chosen_L) / (chosen_L * tokens_L))  # of binomial counts
    return pd.DataFrame({
        "layer": trace.header.model.layer_ids, "cv": spread_L.cv_L, "uniform_cv": uniform_L,
        "max_over_mean": spread_L.max_over_mean_L, "reuse": reuse_L.share_L, "by_chance": reuse_L.chance_L,
    })  # fmt: skip


def load_findings(layers: pd.DataFrame) -> list[str]:
    """Return how skewed the load is."""
    if layers["cv"].isna().all():
        return ["No expert was selected."]
    worst = layers.loc[layers["max_over_mean"].idxmax()]
    return [
        f"Load is spread with a coefficient of variation of {plain(layers['cv'].min())} to "
        f"{plain(layers['cv'].max())}; a uniform choice would give {plain(layers['uniform_cv'].max())} at most. The "
        f"hottest expert, in layer {plain(worst['layer'])}, serves {times(worst['max_over_mean'])} the mean."
    ]


def reuse_findings(layers: pd.DataFrame) -> list[str]:
    """Return how much of a token's experts the next token selects."""
    if layers["reuse"].isna().all():
        return ["No two tokens follow each other, so there is no reuse to tell."]
    return [
        f"Of a token's experts {percent(layers['reuse'].mean())} were selected by the token before it too (mean of "
        f"layers); tokens that select independently would share {percent(layers['by_chance'].mean())}."
    ]


def doubts(trace: Trace) -> list[str]:
    """Return what to mistrust in a trace."""
    notes = trace.header.notes
    said = [f"{line[0].upper()}{line[1:]}." for line in uncomputed(trace, default_k(trace))]
    if "synthetic" in notes:
        said.append("The trace is synthetic: it says nothing about a model.")
    if any("open loop" in str(each) or "open_loop" in str(key) for key, each in notes.items()):
        said.append("The trace was re-gated (open loop): later layers would have seen other inputs.")
    if trace.header.chosen_first:
        said.append("The router does not rank by its scores: the trace can be replayed at the model's own k alone.")
    elif not trace.header.ranked:
        said.append("The router's order was not kept: the trace cannot be replayed at fewer experts per token.")
    return said


def loads_result(path: Path, name: str) -> Result:
    """Return how uneven the loads of a load trace are, over time, in at most `FOLDED` spans."""
    loads = read_loads(path)
    over_SL = max_over_mean_SL(loads)
    used = np.flatnonzero(loads.used_S)
    rows = [
        {"iteration": int(loads.iteration_S[span[0]]), "layer": layer, "max_over_mean": float(over_SL[span, at].mean())}
        for span in np.array_split(used, min(FOLDED, max(1, len(used)))) if len(span)
        for at, layer in enumerate(loads.model.layer_ids)
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["iteration", "layer", "max_over_mean"])
    facts = f"{len(loads.iteration_S):,} iterations of {loads.model.name}, {len(loads.model.layer_ids)} layers of " \
            f"{loads.model.experts} experts; {len(used):,} iterations with selections."  # fmt: skip
    if len(rows):
        first, last = (table.loc[table["iteration"] == each, "max_over_mean"].mean() for each in
                       (table["iteration"].min(), table["iteration"].max()))  # fmt: skip
        facts += f" The hottest expert has {times(first)} the mean at the start and {times(last)} at the end."
    return Result(
        LOADS, name, table, axes=("iteration", "layer"), made=loads.provenance, findings=(facts,),
        doubts=("Loads are counts: which tokens selected which experts is not known.",),
    )  # fmt: skip
