"""Compiled miss counts of one capacity for policies that are no stack algorithms: FIFO, LFU, SIEVE, S3-FIFO.

They count what the policy objects of the same names count (tested); why a rule is as it is stands there. Letters as in
`stack_kernels`: A accesses, S stretches, N experts that share the cache. Several queues stand in one pair of arrays
of links, `after_X` and `before_X`: X = N experts, and behind them one end mark for each queue, which is a ring.
"""

import numpy as np
from numba import njit

SMALL, MAIN, GHOSTS = 0, 1, 2


@njit(cache=True, nogil=True)
def fifo_misses(expert_A: np.ndarray, start_S: np.ndarray, experts: int, slots: int) -> int:
    """Return the misses of FIFO."""
    misses = 0
    for s in range(len(start_S)):
        end = start_S[s + 1] if s + 1 < len(start_S) else len(expert_A)
        held_N = np.zeros(experts, np.bool_)
        ring = np.full(slots, -1, np.int32)
        oldest = 0
        for a in range(start_S[s], end):
            expert = expert_A[a]
            if not held_N[expert]:
                misses += 1
                if ring[oldest] >= 0:
                    held_N[ring[oldest]] = False
                ring[oldest] = expert
                held_N[expert] = True
                oldest = oldest + 1 if oldest + 1 < slots else 0
    return misses


@njit(cache=True, nogil=True)
def lfu_misses(expert_A: np.ndarray, start_S: np.ndarray, experts: int, slots: int) -> int:
    """Return the misses of LFU. Uses and last use stand in one number; the victim's last use says who it is."""
    misses = 0
    absent = np.int64(np.iinfo(np.int64).max)
    for s in range(len(start_S)):
        end = start_S[s + 1] if s + 1 < len(start_S) else len(expert_A)
        key_N = np.full(experts, absent, np.int64)  # uses << 32 | last use
        held = 0
        for a in range(start_S[s], end):
            expert = expert_A[a]
            uses = np.int64(0)
            if key_N[expert] == absent:
                misses += 1
                if held < slots:
                    held += 1
                else:
                    lowest = absent
                    for n in range(experts):
                        lowest = min(lowest, key_N[n])
                    key_N[expert_A[lowest & 0xFFFFFFFF]] = absent
            else:
                uses = key_N[expert] >> 32
            key_N[expert] = (uses + 1) << 32 | a
    return misses


@njit(cache=True, nogil=True)
def sieve_misses(expert_A: np.ndarray, start_S: np.ndarray, experts: int, slots: int) -> int:
    """Return the misses of SIEVE. The hand stands at the end mark until it is needed, and begins at the oldest."""
    misses = 0
    mark = experts
    for s in range(len(start_S)):
        end = start_S[s + 1] if s + 1 < len(start_S) else len(expert_A)
        after_X, before_X = np.full(experts + 1, mark, np.int32), np.full(experts + 1, mark, np.int32)
        held_N, used_N = np.zeros(experts, np.bool_), np.zeros(experts, np.bool_)
        held = 0
        hand = mark
        for a in range(start_S[s], end):
            expert = expert_A[a]
            if held_N[expert]:
                used_N[expert] = True
                continue
            misses += 1
            if held < slots:
                held += 1
            else:
                if hand == mark:
                    hand = after_X[mark]
                while used_N[hand]:
                    used_N[hand] = False
                    hand = after_X[hand] if after_X[hand] != mark else after_X[mark]
                held_N[hand] = False
                following = after_X[hand]
                unlink(after_X, before_X, hand)
                hand = following
            held_N[expert] = True
            append(after_X, before_X, mark, expert)
    return misses


@njit(cache=True, nogil=True)
def s3fifo_misses(expert_A: np.ndarray, start_S: np.ndarray, experts: int, slots: int) -> int:
    """Return the misses of S3-FIFO."""
    misses = 0
    size = np.zeros(3, np.int64)
    for s in range(len(start_S)):
        end = start_S[s + 1] if s + 1 < len(start_S) else len(expert_A)
        after_X, before_X = np.empty(experts + 3, np.int32), np.empty(experts + 3, np.int32)
        for queue in range(3):
            after_X[experts + queue] = before_X[experts + queue] = experts + queue
        size[:] = 0
        place_N, uses_N = np.full(experts, -1, np.int8), np.zeros(experts, np.int8)
        for a in range(start_S[s], end):
            expert = expert_A[a]
            place = place_N[expert]
            if place in (SMALL, MAIN):
                uses_N[expert] = min(uses_N[expert] + 1, 3)
                continue
            misses += 1
            if size[SMALL] + size[MAIN] == slots:
                s3fifo_evict(after_X, before_X, size, place_N, uses_N, slots)
            # The eviction may have pushed this very expert out of the ghosts: ask again.
            queue = MAIN if place_N[expert] == GHOSTS else SMALL
            if queue == MAIN:
                unlink(after_X, before_X, expert)
                size[GHOSTS] -= 1
            append(after_X, before_X, experts + queue, expert)
            size[queue] += 1
            place_N[expert], uses_N[expert] = queue, 0
    return misses


@njit(cache=True, nogil=True)
def s3fifo_evict(
    after_X: np.ndarray, before_X: np.ndarray, size: np.ndarray, place_N: np.ndarray, uses_N: np.ndarray, slots: int
) -> None:
    """Turn the queues until one gives an expert up."""
    experts = len(place_N)
    small_slots = max(1, slots // 10)
    while True:
        queue = SMALL if size[SMALL] > 0 and (size[MAIN] == 0 or size[SMALL] >= small_slots) else MAIN
        first = after_X[experts + queue]
        unlink(after_X, before_X, first)
        stays = uses_N[first] > 1 if queue == SMALL else uses_N[first] > 0
        if stays:
            append(after_X, before_X, experts + MAIN, first)
            size[queue] -= 1
            size[MAIN] += 1
            place_N[first], uses_N[first] = MAIN, 0 if queue == SMALL else uses_N[first] - 1
            continue
        size[queue] -= 1
        place_N[first] = -1
        if queue == SMALL and slots > small_slots:
            append(after_X, before_X, experts + GHOSTS, first)
            size[GHOSTS] += 1
            place_N[first] = GHOSTS
            if size[GHOSTS] > slots - small_slots:
                oldest = after_X[experts + GHOSTS]
                unlink(after_X, before_X, oldest)
                size[GHOSTS] -= 1
                place_N[oldest] = -1
        return


@njit(cache=True, nogil=True)
def unlink(after_X: np.ndarray, before_X: np.ndarray, expert: int) -> None:
    """Take an expert out of its queue."""
    after_X[before_X[expert]] = after_X[expert]
    before_X[after_X[expert]] = before_X[expert]


@njit(cache=True, nogil=True)
def append(after_X: np.ndarray, before_X: np.ndarray, mark: int, expert: int) -> None:
    """Put an expert last into the queue of an end mark."""
    last = before_X[mark]
    after_X[last] = expert
    before_X[expert] = last
    after_X[expert] = mark
    before_X[mark] = expert
