"""Whole miss-ratio curves in one pass: LRU and both optima are stack algorithms (Mattson et al. 1970).

An access at depth d of the stack hits in every cache of more than d slots, so that the counts of depths give the misses
of every capacity. Stacks are small arrays, because a cache serves few experts. Letters: A accesses, S stretches
(the caches are emptied where one starts), N experts that share the cache, D = N + 1 depths, the last of them for
first accesses. A kernel calls nothing of another file: numba's cache would not notice that it changed.
"""

import numpy as np
from numba import njit

NARROW = 256  # experts whose ranks fit into one byte
NEVER = np.iinfo(np.int32).max


def lru_curve(expert_A: np.ndarray, start_S: np.ndarray, experts: int) -> np.ndarray:
    """Return the misses of LRU with 0..N slots (int64 [N + 1]) on accesses of the experts 0..N-1 (int32)."""
    rank_WN = np.empty((2, experts), np.uint8 if experts <= NARROW else np.int32)
    return misses_from_depths(lru_depths(expert_A, start_S, rank_WN))


def optimum_curve(expert_A: np.ndarray, start_S: np.ndarray, experts: int) -> np.ndarray:
    """Return the misses of the optimum with 0..N slots (int64 [N + 1]) on accesses of the experts 0..N-1 (int32)."""
    next_A = next_uses(expert_A, start_S, experts)
    return misses_from_depths(optimum_depths(next_A, start_S, experts))


def bypass_curve(expert_A: np.ndarray, start_S: np.ndarray, experts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (misses, those of them that it declines) of the optimum that may decline, each as `optimum_curve`."""
    next_A = next_uses(expert_A, start_S, experts)
    depth_D, place_D = bypass_depths(next_A, start_S, experts)
    return misses_from_depths(depth_D), misses_from_depths(place_D)


def misses_from_depths(depth_D: np.ndarray) -> np.ndarray:
    """Return the misses with 0..N slots from how many accesses there were at each depth."""
    return np.cumsum(depth_D[::-1])[::-1]


@njit(cache=True, nogil=True)
def lru_depths(expert_A: np.ndarray, start_S: np.ndarray, rank_WN: np.ndarray) -> np.ndarray:
    """Return depth_D of LRU. The loops over ranks have no branch, so that they become a few vector instructions.

    Each access waits for the one before it. So both halves (W = 2) of a stretch are gone through at once: the stack in
    the middle is known from the accesses before it.
    """
    experts = rank_WN.shape[1]
    first_N, second_N = rank_WN[0], rank_WN[1]
    depth_D, depth_of_second_D = np.zeros(experts + 1, np.int64), np.zeros(experts + 1, np.int64)
    used_N, used_by_second_N = np.zeros(experts, np.bool_), np.zeros(experts, np.bool_)
    for s in range(len(start_S)):
        start = start_S[s]
        length = (start_S[s + 1] if s + 1 < len(start_S) else len(expert_A)) - start
        half = length // 2
        depth_D[experts] += length % 2  # of an odd number, the first access is apart: no stretch holds it before
        begin = start + length % 2
        stack_before(expert_A, start, begin, first_N, used_N)
        stack_before(expert_A, start, begin + half, second_N, used_by_second_N)
        for a in range(begin, begin + half):
            expert, second = expert_A[a], expert_A[a + half]
            depth, depth_of_second = first_N[expert], second_N[second]
            depth_D[depth if used_N[expert] else experts] += 1
            depth_of_second_D[depth_of_second if used_by_second_N[second] else experts] += 1
            used_N[expert] = used_by_second_N[second] = True
            for n in range(experts):
                rank = first_N[n]
                first_N[n] = 0 if rank == depth else rank + (rank < depth)
            for n in range(experts):
                rank = second_N[n]
                second_N[n] = 0 if rank == depth_of_second else rank + (rank < depth_of_second)
    return depth_D + depth_of_second_D


@njit(cache=True, nogil=True)
def stack_before(expert_A: np.ndarray, start: int, stop: int, rank_N: np.ndarray, used_N: np.ndarray) -> None:
    """Set ranks and who has been used to those after the accesses start..stop-1 of an empty stack.

    Experts that have not been used are in any order below all that have: that moves no depth of the latter.
    """
    used_N[:] = False
    found = 0
    for a in range(stop - 1, start - 1, -1):
        expert = expert_A[a]
        if not used_N[expert]:
            used_N[expert] = True
            rank_N[expert] = found
            found += 1
            if found == len(rank_N):
                return
    for n in range(len(rank_N)):
        if not used_N[n]:
            rank_N[n] = found
            found += 1


@njit(cache=True, nogil=True)
def next_uses(expert_A: np.ndarray, start_S: np.ndarray, experts: int) -> np.ndarray:
    """Return next_A (int32): the next access of the same expert in its stretch, NEVER if there is none."""
    next_A = np.empty(len(expert_A), np.int32)
    end = len(expert_A)
    for s in range(len(start_S) - 1, -1, -1):
        next_N = np.full(experts, NEVER, np.int32)
        for a in range(end - 1, start_S[s] - 1, -1):
            expert = expert_A[a]
            next_A[a] = next_N[expert]
            next_N[expert] = a
        end = start_S[s]
    return next_A


@njit(cache=True, nogil=True)
def optimum_depths(next_A: np.ndarray, start_S: np.ndarray, experts: int) -> np.ndarray:
    """Return depth_D of the optimum. The stack holds next uses only: the expert accessed now is the one due now.

    The accessed expert goes to the top. From there down to where it was, the one with the farther next use of two
    is carried on.
    """
    depth_D = np.zeros(experts + 1, np.int64)
    stack_N = np.empty(experts, np.int32)
    for s in range(len(start_S)):
        end = start_S[s + 1] if s + 1 < len(start_S) else len(next_A)
        held = 0
        for a in range(start_S[s], end):
            carried = np.int32(a)
            if held > 0:
                carried = stack_N[0]
                stack_N[0] = next_A[a]
            depth = 0
            while carried != a and depth + 1 < held:
                depth += 1
                here = stack_N[depth]
                if here == a:
                    stack_N[depth] = carried
                    carried = here
                else:
                    stack_N[depth] = min(here, carried)
                    carried = max(here, carried)
            if held > 0 and carried == a:
                depth_D[depth] += 1
            else:
                stack_N[held] = carried if held > 0 else next_A[a]
                held += 1
                depth_D[experts] += 1
    return depth_D


@njit(cache=True, nogil=True)
def bypass_depths(next_A: np.ndarray, start_S: np.ndarray, experts: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (depth_D, place_D) of the optimum that may decline; the stack holds next uses only, as the optimum's.

    On a miss C slots keep, of what they hold and the new expert, all but the farthest next use. By induction over the
    accesses C + 1 slots then hold what C slots hold and one more, so that one stack serves all capacities: from the
    top down to where the accessed expert was, the farther of two is carried on, first of all the accessed one itself.
    It finds its place where another is carried on instead; as many slots as are above that place decline it.
    """
    depth_D, place_D = np.zeros(experts + 1, np.int64), np.zeros(experts + 1, np.int64)
    stack_N = np.empty(experts, np.int32)
    for s in range(len(start_S)):
        end = start_S[s + 1] if s + 1 < len(start_S) else len(next_A)
        held = 0
        for a in range(start_S[s], end):
            carried, depth, place = next_A[a], 0, -1
            while depth < held and stack_N[depth] != a:
                here = stack_N[depth]
                if here > carried:
                    stack_N[depth] = carried
                    carried = here
                    place = depth if place < 0 else place
                depth += 1
            place_D[depth if place < 0 else place] += 1
            depth_D[depth if depth < held else experts] += 1
            held += depth == held
            stack_N[depth] = carried
    return depth_D, place_D
