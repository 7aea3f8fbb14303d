"""Does the use of experts differ between domains? Distances between popularities, and a permutation test.

The statistic of a layer is the Jensen-Shannon divergence (bits) of the domains' expert popularities, all domains with
equal weight. Tokens of a sequence depend on each other, so whole sequences are permuted between the domains:
p = (1 + permutations at least as far apart) / (1 + permutations).
"""

from dataclasses import dataclass

import numpy as np

from moe_replay.analysis.tables.locality.reuse import counts
from moe_replay.traces.describe import default_k, slots
from moe_replay.traces.selections import Trace

PERMUTATIONS = 999


@dataclass(frozen=True)
class Drift:
    """Per layer: the divergence, its mean and 95 % quantile over permutations, and p; `p` of the sum over layers."""

    divergence_L: np.ndarray
    null_mean_L: np.ndarray
    null_high_L: np.ndarray
    p_L: np.ndarray
    p: float
    permutations: int


def domain_drift(count_SLE: np.ndarray, domain_S: np.ndarray, rng: np.random.Generator) -> Drift:
    """Return the test from the selections of every sequence and its domain."""
    names = np.unique(domain_S)
    member_DS = (domain_S == names[:, None]).astype(np.float64)
    flat_SX = count_SLE.reshape(len(count_SLE), -1).astype(np.float64)
    shape = (len(names), *count_SLE.shape[1:])
    observed_L = divergence((member_DS @ flat_SX).reshape(shape))
    null_PL = np.empty((PERMUTATIONS, shape[1]))
    for number in range(PERMUTATIONS):
        permuted_DS = member_DS[:, rng.permutation(len(domain_S))]
        null_PL[number] = divergence((permuted_DS @ flat_SX).reshape(shape))
    return Drift(
        observed_L, null_PL.mean(0), np.quantile(null_PL, 0.95, axis=0), at_least(observed_L, null_PL),
        float(at_least(observed_L.sum(), null_PL.sum(1))), PERMUTATIONS,
    )  # fmt: skip


def at_least(observed: np.ndarray, null_P: np.ndarray) -> np.ndarray:
    """Return p of a one-sided permutation test, NaN where nothing was observed.

    A permutation that leaves a domain without selections says nothing; it counts as being as far apart.
    """
    apart_P = (null_P >= observed - 1e-12) | np.isnan(null_P)
    return np.where(np.isnan(observed), np.nan, (1 + apart_P.sum(0)) / (1 + len(null_P)))


def divergence(count_DLE: np.ndarray) -> np.ndarray:
    """Return the Jensen-Shannon divergence of D popularities per layer, bits: 0 where equal, log2 D where disjoint.

    NaN where a domain has no selections in the layer.
    """
    with np.errstate(invalid="ignore"):
        share_DLE = count_DLE / count_DLE.sum(-1, keepdims=True)  # NaN in a domain without selections
    return entropy(share_DLE.mean(0)) - entropy(share_DLE).mean(0)


def entropy(share_E: np.ndarray) -> np.ndarray:
    """Return the entropy of shares along the last axis, bits."""
    return -(share_E * np.log2(np.where(share_E > 0, share_E, 1))).sum(-1)


def sequence_counts(trace: Trace) -> np.ndarray:
    """Return the selections of every sequence, layer and expert, int64 [S, L, E], of the experts the model used."""
    experts_TLK = slots(trace, default_k(trace))
    index_T = np.searchsorted(trace.sequences_S, trace.sequence_T)
    order_T = np.argsort(index_T, kind="stable")
    stops = np.cumsum(np.bincount(index_T, minlength=trace.S))
    return np.stack([counts(experts_TLK[part], trace.E) for part in np.split(order_T, stops[:-1])])
