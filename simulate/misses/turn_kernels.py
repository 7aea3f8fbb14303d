"""Compiled miss counts in group mode, without a prefetcher: FIFO, LRU, LFU, LIFO and both optima.

They count what the policy objects of the same names count there (`group_misses`, tested); why a rule is as it is
stands there. Letters: A accesses, G groups, N experts that share the cache.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit

from moe_replay.simulate.misses.flat_misses import bypass_counts
from moe_replay.simulate.misses.stack_kernels import next_uses
from moe_replay.simulate.policies.caches.belady import Belady, BeladyBypass
from moe_replay.simulate.policies.caches.cache import Cache, Counts
from moe_replay.simulate.policies.caches.fifo import FIFO
from moe_replay.simulate.policies.caches.lfu import LFU
from moe_replay.simulate.policies.caches.lifo import LIFO
from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.policies.memory.knowledge import Group

BY_FIFO, BY_LRU, BY_LFU, BY_LIFO, BY_OPTIMUM = range(5)
RULES = {FIFO: BY_FIFO, LRU: BY_LRU, LFU: BY_LFU, LIFO: BY_LIFO, Belady: BY_OPTIMUM}  # by class, not a subclass
COUNTED = (*RULES, BeladyBypass)
# What an expert of the running group is worth beyond all others: if its turn is yet to come (any policy), if it is over
# (LIFO). No number of accesses, uses or next use reaches the lesser of them.
YET_TO_RUN, HAS_RUN = 2**40, 2**33


@dataclass(frozen=True)
class Turns:
    """The accesses of one cache, group after group: the experts `expert_A` (int32), counted from its first key.

    Group g begins with access `start_G[g]` (int64); before it the cache is emptied where `fresh_G` is true.
    """

    expert_A: np.ndarray
    start_G: np.ndarray
    fresh_G: np.ndarray
    experts: int

    def counts(self, policy: type[Cache], slots: int) -> Counts:
        """Return what a policy of `COUNTED` does with this many slots; no evictions of the optimum that may decline."""
        if policy is BeladyBypass:
            return self.bypassing[slots]
        next_A = next_uses(self.expert_A, self.start_G[self.fresh_G], self.experts)
        arrays = (self.expert_A, self.start_G, self.fresh_G, next_A)
        misses, evictions = (int(each) for each in turn_misses(*arrays, self.experts, slots, RULES[policy]))
        accesses = len(self.expert_A)
        return Counts(accesses=accesses, hits=accesses - misses, misses=misses, loads=misses, evictions=evictions)

    @cached_property
    def bypassing(self) -> list[Counts]:
        """What the optimum that may decline does with 0..N slots: no member of a group is in another's way there."""
        return bypass_counts(self.expert_A, self.start_G[self.fresh_G], self.experts, range(self.experts + 1))


def turns_of(stretches: Sequence[Sequence[Group]], keys: range, layer: int | None) -> Turns:
    """Return the accesses that groups make to the cache with these keys, of one layer or (None) of all."""
    of_stretch = [[group.members for group in groups if layer in (None, group.layer)] for groups in stretches]
    groups = [members for found in of_stretch for members in found]
    accesses = np.array([key for members in groups for key in members], np.int32) - np.int32(keys.start)
    starts = np.cumsum([0, *map(len, groups)])[:-1]
    fresh = [at == 0 for found in of_stretch for at in range(len(found))]
    return Turns(accesses, starts.astype(np.int64), np.array(fresh, np.bool_), len(keys))


@njit(cache=True, nogil=True)
def turn_misses(
    expert_A: np.ndarray, start_G: np.ndarray, fresh_G: np.ndarray, next_A: np.ndarray, experts: int, slots: int,
    rule: int,
) -> tuple[int, int]:  # fmt: skip
    """Return (misses, evictions). Of the experts that hold slots the one of least worth leaves; ties: the oldest.

    Worth is the number of uses (LFU), the nearness of the next use (the optimum), or equal for all; age counts from the
    last use (LRU, LFU) or from when the slot was given.
    """
    misses = evictions = held = 0
    holds_N, worth_N, since_N = np.zeros(experts, np.bool_), np.zeros(experts, np.int64), np.zeros(experts, np.int64)
    group_N, turn_N = np.full(experts, -1, np.int64), np.zeros(experts, np.int64)
    for g in range(len(start_G)):
        end = start_G[g + 1] if g + 1 < len(start_G) else len(expert_A)
        if fresh_G[g]:
            holds_N[:] = False
            held = 0
        for a in range(start_G[g], end):
            group_N[expert_A[a]], turn_N[expert_A[a]] = g, a
        for a in range(start_G[g], end):
            expert = expert_A[a]
            if not holds_N[expert]:
                misses += 1
                if held < slots:
                    held += 1
                else:
                    holds_N[least(holds_N, worth_N, since_N, group_N == g, turn_N, a, rule)] = False
                    evictions += 1
                holds_N[expert], worth_N[expert], since_N[expert] = True, 0, a
            if rule in (BY_LRU, BY_LFU):
                since_N[expert] = a
            if rule == BY_LFU:
                worth_N[expert] += 1
            elif rule == BY_OPTIMUM:
                worth_N[expert] = -np.int64(next_A[a])
    return misses, evictions


@njit(cache=True, nogil=True)
def least(
    holds_N: np.ndarray, worth_N: np.ndarray, since_N: np.ndarray, runs_N: np.ndarray, turn_N: np.ndarray, now: int,
    rule: int,
) -> int:  # fmt: skip
    """Return who leaves at access `now`; of members that are yet to run the last, and only if there is no other."""
    chosen, least_worth, oldest = -1, np.int64(0), np.int64(0)
    for n in range(len(holds_N)):
        if not holds_N[n]:
            continue
        worth = worth_N[n]
        if runs_N[n] and turn_N[n] > now:
            worth = YET_TO_RUN - turn_N[n]
        elif runs_N[n] and rule == BY_LIFO:
            worth = HAS_RUN - since_N[n]
        if chosen < 0 or worth < least_worth or (worth == least_worth and since_N[n] < oldest):
            chosen, least_worth, oldest = n, worth, since_N[n]
    return chosen
