"""Reuse of experts along streams: by the next token, and LRU stack distances. Counted in flat mode, in stored order."""

from dataclasses import dataclass

import numpy as np

from moe_replay.analysis.tables.locality.streams import Streams
from moe_replay.simulate.misses.stack_kernels import lru_curve
from moe_replay.traces.routes import routed_rows


@dataclass(frozen=True)
class Adjacent:
    """Per layer: selections that the token before in the stream selected too, out of all that have a token before.

    A token after one without a route has none before it. `chance_L` is the exact mean of `shared_L` over all orders of
    each stream's routed tokens: the shuffled control.
    """

    shared_L: np.ndarray
    selections_L: np.ndarray
    chance_L: np.ndarray


def adjacent_reuse(streams: Streams) -> Adjacent:
    """Return the reuse between tokens that follow each other.

    In random order two neighbours of a stream of n routed tokens are any two of them: with c_e tokens that selected
    expert e they share sum_e c_e (c_e - 1) / (n (n - 1)) experts on average, once for each pair of routed neighbours.
    """
    experts_TLK, stream_T = streams.experts_TLK, streams.stream_T
    after = np.flatnonzero(stream_T[1:] == stream_T[:-1]) + 1
    now, before = experts_TLK[after], experts_TLK[after - 1]
    both_PL = routed_rows(now) & routed_rows(before)
    shared_L = ((now[..., None] == before[:, :, None, :]).any(-1) & (now >= 0)).sum((0, 2))
    chance_L = np.zeros(experts_TLK.shape[1])
    routed_TL = routed_rows(experts_TLK)
    for start, stop in zip(streams.start_X, np.append(streams.start_X[1:], len(stream_T)), strict=True):
        count_LE = counts(experts_TLK[start:stop], streams.experts)
        pairs_L = (routed_TL[start + 1 : stop] & routed_TL[start : stop - 1]).sum(0)
        routed_L = np.maximum(routed_TL[start:stop].sum(0), 2)  # fewer have no pair
        chance_L += pairs_L / (routed_L - 1) * (count_LE * (count_LE - 1)).sum(1) / routed_L
    return Adjacent(shared_L, ((now >= 0) & both_PL[..., None]).sum((0, 2)), chance_L)


def counts(experts_TLK: np.ndarray, experts: int) -> np.ndarray:
    """Return how many tokens selected every expert of every layer, int64 [L, E]."""
    layers = experts_TLK.shape[1]
    place = np.maximum(experts_TLK, -1) + 1 + np.arange(layers)[:, None] * (experts + 1)
    found = np.bincount(place.ravel(), minlength=layers * (experts + 1))
    return found.reshape(layers, experts + 1)[:, 1:]


def distances(streams: Streams) -> np.ndarray:
    """Return how many selections of each layer have which LRU stack distance, int64 [L, E + 1].

    The distance is the number of other experts of the layer selected since the expert was selected last in the stream,
    0..E-1; column E counts first selections. LRU with C slots per layer, emptied where a stream starts, hits exactly
    those below C.
    """
    found = np.zeros((streams.experts_TLK.shape[1], streams.experts + 1), np.int64)
    for layer, found_X in enumerate(found):
        expert_TK = streams.experts_TLK[:, layer]
        filled_TK = expert_TK >= 0
        before_T = np.append(0, np.cumsum(filled_TK.sum(1)))
        misses_C = lru_curve(expert_TK[filled_TK].astype(np.int32), before_T[streams.start_X], streams.experts)
        found_X[:] = -np.diff(misses_C, append=0)
    return found
