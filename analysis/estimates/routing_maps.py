"""Maps of routing beside their controls: load of experts by layer, and a layer's experts over time.

Letters: L layers, E experts, B bins of time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.traces.describe import default_k, load_LE, slots
from moe_replay.traces.routes import routed_rows
from moe_replay.traces.selections import Trace

BINS = 24


@dataclass(frozen=True)
class LoadMap:
    """Load over the mean of a layer's experts: recorded, and with every selection's expert drawn at random.

    NaN in a layer without selections.
    """

    recorded_LE: np.ndarray
    drawn_LE: np.ndarray


@dataclass(frozen=True)
class DriftMap:
    """Load over the mean of a layer's experts in every bin of time: recorded, and with the tokens in random order.

    `moved` and `moved_shuffled` are the share of a bin's selections that would have to change their expert for the bin
    to be like the whole (total variation), on average over bins.
    """

    recorded_BE: np.ndarray
    shuffled_BE: np.ndarray
    moved: float
    moved_shuffled: float


def load_map(trace: Trace, rng: np.random.Generator) -> LoadMap:
    """Return the load of every expert of every layer over its layer's mean, at the model's own k."""
    counts_LE = load_LE(trace, default_k(trace))[:, : trace.header.model.real_experts]
    experts = counts_LE.shape[1]
    drawn_LE = np.stack([rng.multinomial(total, np.full(experts, 1 / experts)) for total in counts_LE.sum(1)])
    return LoadMap(over_mean(counts_LE), over_mean(drawn_LE))


def drift_map(trace: Trace, layer: int, rng: np.random.Generator, bins: int = BINS) -> DriftMap:
    """Return a layer's load over time, in bins of equally many tokens in recorded order, and of the same shuffled."""
    one_TLK = slots(trace, default_k(trace))[:, layer : layer + 1]
    one_TK = one_TLK[routed_rows(one_TLK)[:, 0], 0]
    found = []
    for order_T in (np.arange(len(one_TK)), rng.permutation(len(one_TK))):
        counts_BE = binned(one_TK[order_T], trace.header.model.real_experts, min(bins, max(len(one_TK), 1)))
        found += [over_mean(counts_BE), moved(counts_BE)]
    return DriftMap(found[0], found[2], found[1], found[3])


def binned(one_TK: np.ndarray, experts: int, bins: int) -> np.ndarray:
    """Return the selections of every expert in every bin [B, E]."""
    return np.stack([
        np.bincount(part[part >= 0].astype(np.int64), minlength=experts)[:experts]
        for part in np.array_split(one_TK, bins)
    ])  # fmt: skip


def over_mean(counts_XE: np.ndarray) -> np.ndarray:
    """Return every row's counts over their mean; NaN in a row without any."""
    with np.errstate(invalid="ignore"):
        return counts_XE / counts_XE.mean(1, keepdims=True)


def moved(counts_BE: np.ndarray) -> float:
    """Return the mean total variation between a bin's shares and those of the whole; NaN without selections."""
    with np.errstate(invalid="ignore"):
        share_BE = counts_BE / counts_BE.sum(1, keepdims=True)
        whole_E = counts_BE.sum(0) / counts_BE.sum()
    return float(np.abs(share_BE - whole_E).sum(1).mean() / 2)
