"""How load spreads over experts for every k: recorded choices, cut to the first k ranks, against a uniform choice.

Time is counted in forward steps of the recording engine: that is the unit in which an expert sees its samples. The
control is a router that chooses k of E experts uniformly at random for the same number of tokens: what lies above it
is imbalance, what lies at it is counting noise.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import BASE_TRACE
from moe_replay.analysis.written_tables import hole_row, holes, write_claims, write_tables
from moe_replay.traces.describe import slots
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.routes import routed_rows

CONTROL_DRAWS = 4000
ALL_LAYERS = "all"
CLAIMED = ("samples_per_step", "cv", "uniform_cv", "max_over_mean", "min_over_mean", "step_cv", "uniform_step_cv")

SEED = 0  # of the uniform control's draws


def build_load(inputs: Inputs, out: Path) -> list[str]:
    """Write `load_vs_k`, `load_vs_k_experts` and `load_vs_k_places`: how is load spread over experts for each k?"""
    rows: list[dict] = []
    experts: list[dict] = []
    generator = np.random.default_rng(SEED)
    for name, trace, reason in inputs.per_data(BASE_TRACE, load_trace):
        if trace is None or not trace.header.ranked:
            rows.append(
                hole_row(name, trace, reason or "the trace did not keep the router's order, so k cannot be cut")
            )
            continue
        rows += load_rows(name, slots(trace, None), trace.step_T, trace.E, trace.header.model.used_k, generator)
        experts += expert_rows(name, slots(trace, None), trace.step_T, trace.E)
    tables = {
        "load_vs_k": rows,
        "load_vs_k_experts": experts,
        "load_vs_k_places": place_rows(pd.DataFrame(experts)),
    }
    written = write_tables(out, tables, inputs.used(BASE_TRACE))
    write_claims(out, {"load_vs_k": load_claim(written["load_vs_k"])})
    return holes(written["load_vs_k"])


def load_by_k(experts_TLK: np.ndarray, experts: int) -> np.ndarray:
    """Return load_KLE: samples of every expert if only the first 1, 2, .. K ranks are used, empty slots aside."""
    _, layers, ranks = experts_TLK.shape
    load_KLE = np.zeros((ranks, layers, experts), dtype=np.int64)
    for layer in range(layers):
        for rank in range(ranks):
            chosen_T = experts_TLK[:, layer, rank]
            load_KLE[rank, layer] = np.bincount(chosen_T[chosen_T >= 0], minlength=experts)
    return load_KLE.cumsum(axis=0)


def step_variation(experts_TLK: np.ndarray, step_T: np.ndarray, experts: int) -> np.ndarray:
    """Return variation_KL: the coefficient of variation over experts inside one forward step, averaged over steps.

    This is the imbalance that a lockstep engine meets; it holds the counting noise of small steps too. The last step
    may be short, like any other. A step without selections in a layer is left out there.
    """
    _, layers, ranks = experts_TLK.shape
    _, step_T = np.unique(step_T, return_inverse=True)
    steps = int(step_T.max()) + 1
    variation_KL = np.zeros((ranks, layers))
    for layer in range(layers):
        load_SE = np.zeros((steps, experts))
        for rank in range(ranks):
            chosen_T = experts_TLK[:, layer, rank]
            used = chosen_T >= 0
            place = step_T[used] * experts + chosen_T[used]
            load_SE += np.bincount(place, minlength=steps * experts).reshape(steps, experts)
            loaded_S = load_SE.any(1)
            variation_KL[rank, layer] = coefficient_of_variation(load_SE[loaded_S]).mean() if loaded_S.any() else 0
    return variation_KL


def coefficient_of_variation(load: np.ndarray) -> np.ndarray:
    """Return standard deviation (over all experts, the last axis) over mean; 0 where there is no load at all."""
    mean = load.mean(axis=-1)
    return np.divide(load.std(axis=-1), mean, out=np.zeros_like(mean), where=mean > 0)


def uniform_control(tokens: int, k: int, experts: int, generator: np.random.Generator) -> tuple[float, float, float]:
    """Return the mean (coefficient of variation, max / mean, min / mean) of a uniform choice of k of E for T tokens.

    An expert's count has mean T p and variance T p (1 - p), p = k / E, and the counts add up to T k, which makes
    every pair's correlation -1 / (E - 1). Drawn as a normal vector of that covariance, which is close from some tens
    of samples per expert on.
    """
    p = k / experts
    if p >= 1:
        return 0.0, 1.0, 1.0
    noise = generator.standard_normal((CONTROL_DRAWS, experts))
    noise -= noise.mean(axis=1, keepdims=True)
    load = 1 + noise * np.sqrt((1 - p) / (tokens * p) * experts / (experts - 1))
    low = np.maximum(load.min(axis=1), 0)
    return float(load.std(axis=1).mean()), float(load.max(axis=1).mean()), float(low.mean())


def load_rows(
    name: str, experts_TLK: np.ndarray, step_T: np.ndarray, experts: int, used_k: int, generator: np.random.Generator
) -> list[dict]:
    """Return one row per k and layer, and per k one for all layers together.

    `samples_per_step` is the mean over experts; `cv`, `max_over_mean`, `min_over_mean` describe its spread over the
    whole recording, `step_cv` inside one step; `uniform_*` are the same for a uniform random choice. `tokens` are those
    with a route, the mean over layers. Over all layers `cv` is the root mean square, the others are the most, the least
    and the mean.
    """
    load_KLE, step_cv_KL = load_by_k(experts_TLK, experts), step_variation(experts_TLK, step_T, experts)
    tokens, steps = max(round(routed_rows(experts_TLK).sum(0).mean()), 1), len(np.unique(step_T))
    rows = []
    for k, load_LE in enumerate(load_KLE, start=1):
        control = uniform_control(tokens, k, experts, generator)
        step_control = uniform_control(max(tokens // steps, 1), k, experts, generator)[0]
        cv_L = coefficient_of_variation(load_LE)
        for layer, cv in enumerate(cv_L):
            rows.append(
                load_row(load_LE[layer], steps) | {"layer": str(layer), "cv": cv, "step_cv": step_cv_KL[k - 1, layer]}
            )
        whole = {"layer": ALL_LAYERS, "cv": np.sqrt(np.mean(cv_L**2)), "step_cv": step_cv_KL[k - 1].mean()}
        rows.append(load_row(load_LE, steps) | whole)
        for row in rows[-len(cv_L) - 1 :]:
            row |= {"set": name, "k": k, "used_k": used_k, "experts": experts, "tokens": tokens, "steps": steps,
                    "uniform_cv": control[0], "uniform_max_over_mean": control[1], "uniform_min_over_mean": control[2],
                    "uniform_step_cv": step_control, "status": "ok", "reason": ""}  # fmt: skip
    return rows


def load_row(load: np.ndarray, steps: int) -> dict:
    """Return mean, least and most samples per expert and step, and what they are over the mean."""
    mean = load.mean()
    return {
        "samples_per_step": mean / steps, "least_per_step": load.min() / steps, "most_per_step": load.max() / steps,
        "max_over_mean": load.max() / mean, "min_over_mean": load.min() / mean,
        "unused_experts": int((load == 0).sum()),
    }  # fmt: skip


def expert_rows(name: str, experts_TLK: np.ndarray, step_T: np.ndarray, experts: int) -> list[dict]:
    """Return one row per k, layer and expert: samples per step, share of the layer's load, and load over the mean.

    `place` ranks the experts of a layer by load, 1 the heaviest.
    """
    steps = len(np.unique(step_T))
    rows = []
    for k, load_LE in enumerate(load_by_k(experts_TLK, experts), start=1):
        for layer, load_E in enumerate(load_LE):
            order = np.argsort(-load_E, kind="stable")
            for place, expert in enumerate(order, start=1):
                own = load_E[expert]
                rows.append({
                    "set": name, "k": k, "layer": layer, "expert": int(expert), "place": place, "samples": int(own),
                    "samples_per_step": own / steps, "share": own / load_E.sum(), "over_mean": own / load_E.mean(),
                })  # fmt: skip
    return rows


def place_rows(experts: pd.DataFrame) -> pd.DataFrame:
    """Return, per set, k and place, the load over the mean of the experts in that place, over layers."""
    if experts.empty:
        return pd.DataFrame(columns=["set", "k", "place", "over_mean", "over_mean_least", "over_mean_most"])
    grouped = experts.groupby(["set", "k", "place"], sort=False)["over_mean"]
    made = grouped.agg(over_mean="mean", over_mean_least="min", over_mean_most="max")
    return made.reset_index()


def load_claim(table: pd.DataFrame) -> dict:
    """Return the sentence and the numbers of the load figure."""
    whole = table[(table["layer"] == ALL_LAYERS) & (table["status"] == "ok")] if "layer" in table else table.iloc[:0]
    if whole.empty:
        return {"claim": "No base trace could be read, so nothing can be said about load.", "numbers": {}}
    sentences, numbers = [], {}
    for name, rows in whole.groupby("set", sort=False):
        by_k = rows.set_index("k")
        used, first = by_k.loc[by_k["used_k"].iloc[0]], by_k.iloc[0]
        sentences.append(
            f"{name}: the spread of load over experts (coefficient of variation) is {first['cv']:.2f} at "
            f"k={by_k.index[0]} and {used['cv']:.2f} at the model's own k={used.name}, where uniform random choice "
            f"would give {used['uniform_cv']:.3f}; the heaviest expert then serves {used['max_over_mean']:.2f} times "
            f"the mean, the lightest {used['min_over_mean']:.2f} times."
        )
        numbers[name] = {str(k): {column: float(row[column]) for column in CLAIMED} for k, row in by_k.iterrows()}
    return {"claim": " ".join(sentences), "numbers": numbers}
