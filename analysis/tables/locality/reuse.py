"""Reuse of experts along streams: by the next token, and LRU stack distances. Counted in flat mode, in stored order."""

from dataclasses import dataclass

import numpy as np

from moe_replay.analysis.tables.locality.streams import Streams
from moe_replay.traces.routes import routed_rows

CHUNK = 4096  # selections whose distances are found at once


@dataclass(frozen=True)
class Adjacent:
    """Per layer: selections that the token before in the stream selected too, out of all that have a token before.

    A token after one without a route has none before it, nor has one before which tokens are missing. `chance_L` is the
    exact mean of `shared_L` over all orders of each stream's routed tokens: the shuffled control.
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
    apart_T = np.zeros(len(stream_T), bool) if streams.apart_T is None else streams.apart_T
    after = np.flatnonzero((stream_T[1:] == stream_T[:-1]) & ~apart_T[1:]) + 1
    now, before = experts_TLK[after], experts_TLK[after - 1]
    both_PL = routed_rows(now) & routed_rows(before)
    shared_L = ((now[..., None] == before[:, :, None, :]).any(-1) & (now >= 0)).sum((0, 2))
    chance_L = np.zeros(experts_TLK.shape[1])
    routed_TL = routed_rows(experts_TLK)
    for start, stop in zip(streams.start_X, np.append(streams.start_X[1:], len(stream_T)), strict=True):
        count_LE = counts(experts_TLK[start:stop], streams.experts)
        follows_T1 = ~apart_T[start + 1 : stop, None]
        pairs_L = (routed_TL[start + 1 : stop] & routed_TL[start : stop - 1] & follows_T1).sum(0)
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
        start_T = streams.start_X[streams.stream_T] if len(streams.stream_T) else streams.stream_T
        before_T = np.append(0, np.cumsum(filled_TK.sum(1)))
        start_A = np.repeat(before_T[start_T], filled_TK.sum(1))
        found_X[:] = distances_of(expert_TK[filled_TK], start_A, streams.experts)
    return found


def distances_of(expert_A: np.ndarray, start_A: np.ndarray, experts: int) -> np.ndarray:
    """Return how many selections of one layer have which distance, int64 [E + 1].

    `start_A` is the first selection of the stream of each. A selection whose expert came last at `last` is as far as
    experts came after that, which their own last selections tell.
    """
    counted_X = np.zeros(experts + 1, np.int64)
    last_E = np.full(experts, -1, np.int32)
    for first in range(0, len(expert_A), CHUNK):
        part = expert_A[first : first + CHUNK]
        rows = np.arange(len(part))
        last_AE = np.full((len(part) + 1, experts), -1, np.int32)
        last_AE[0] = last_E
        last_AE[rows + 1, part] = first + rows
        np.maximum.accumulate(last_AE, axis=0, out=last_AE)
        last_A = last_AE[rows, part]
        distance_A = (last_AE[:-1] > last_A[:, None]).sum(1)
        distance_A[last_A < start_A[first : first + CHUNK]] = experts
        counted_X += np.bincount(distance_A, minlength=experts + 1)
        last_E = last_AE[-1].copy()
    return counted_X
