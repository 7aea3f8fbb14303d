"""Accesses for the compiled caches: what they are given, and what they counted.

Cache policies are compiled once, for the engine; here they are replayed without time (`compiled.memory.cache_replay`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe_replay.simulate.compiled.compiled_rules import COMPILED
from moe_replay.simulate.compiled.entries import replay_accesses
from moe_replay.simulate.compiled.memory.access_order import positions, starts
from moe_replay.simulate.compiled.memory.cache_replay import REPLAY, REPLAY_ARRAYS
from moe_replay.simulate.compiled.memory.memory_build import (
    COUNTS,
    DRAWN_ANEW,
    free_slots,
    new_caches,
    new_keys,
    words_of,
)
from moe_replay.simulate.compiled.memory.memory_layout import ARRAYS, MEMORY, NO_USE
from moe_replay.simulate.compiled.pointers import Pointed
from moe_replay.simulate.misses.access_streams import Stream
from moe_replay.simulate.policies.caches.cache import Cache, Counts
from moe_replay.simulate.policies.memory.knowledge import Group

Seed = int | list[int]

# By class: a subclass, or another class under the same name, is counted by its objects.
COMPILED_CACHES = COMPILED["cache policy"]


@dataclass(frozen=True)
class Accesses:
    """The accesses `key_A` (int32) of caches, in groups. Keys count from the first; `cache_K` says whose each is.

    Group g has those from `start_G[g]` to `start_G[g + 1]` (int64); before it the caches are emptied where `fresh_G`
    (int8) says so. Where groups are announced, their members are protected until they have run.
    """

    key_A: np.ndarray
    start_G: np.ndarray
    fresh_G: np.ndarray
    cache_K: np.ndarray
    announced: bool

    @classmethod
    def of_stream(cls, stream: Stream) -> Accesses:
        """Return the accesses of flat mode: a stretch is a group that nobody announces."""
        begins = np.append(stream.start_S, len(stream.expert_A)).astype(np.int64)
        fresh = (np.arange(len(stream.start_S)) > 0).astype(np.int8)
        return cls(np.array(stream.expert_A), begins, fresh, np.zeros(len(stream.keys), np.int64), announced=False)

    @classmethod
    def of_groups(cls, stretches: Sequence[Sequence[Group]], ranges: Sequence[range]) -> Accesses:
        """Return the accesses of group mode to the caches that serve these keys."""
        members = [group.members for groups in stretches for group in groups]
        begins = starts(np.array([len(each) for each in members], np.int64))
        fresh = np.array([i == 0 for groups in stretches for i in range(len(groups))], np.int8)
        fresh[0] = 0  # caches begin empty
        keys = np.array([key for each in members for key in each], np.int32)
        return cls(keys, begins, fresh, np.repeat(np.arange(len(ranges)), [len(each) for each in ranges]), True)

    @cached_property
    def uses(self) -> dict[str, np.ndarray]:
        """Every key's uses as positions among those of its cache, and NO_USE at the end of every stretch."""
        keys, fresh = len(self.cache_K), self.fresh_G.astype(bool)
        stretch_A = np.repeat(np.cumsum(fresh), np.diff(self.start_G))
        stretches = 1 + int(fresh.sum())
        key_U = np.concatenate([self.key_A, np.tile(np.arange(keys), stretches)])
        stretch_U = np.concatenate([stretch_A, np.repeat(np.arange(stretches), keys)])
        position_U = np.concatenate([positions(self.key_A, self.cache_K), np.full(keys * stretches, NO_USE)])
        return {
            "uses_U": position_U[np.lexsort((stretch_U, key_U))],
            "first_use_K": starts(np.bincount(key_U, minlength=keys)),
        }

    def stream(self, cache: int) -> Stream:
        """Return what one cache is asked for."""
        keys = np.flatnonzero(self.cache_K == cache)
        own_A = self.cache_K[self.key_A] == cache
        before = np.append(0, np.cumsum(own_A))
        begins = self.start_G[np.append(0, np.flatnonzero(self.fresh_G))]
        first = int(keys[0])
        return Stream(self.key_A[own_A] - np.int32(first), before[begins], range(first, int(keys[-1]) + 1), None)


def compiled_counts(accesses: Accesses, caches: list[Cache], experts: int, seed: Seed) -> list[Counts]:
    """Return what the compiled policy of these caches, which are empty, does on accesses; none of them is changed.

    `experts` are those of a layer, `seed` that of the policies that draw. RuntimeError if a demand has nowhere to go.
    """
    kind = type(caches[0])
    keys, records = new_keys(caches, accesses.cache_K, caches[0].keys.start), new_caches(caches)
    none = {"uses_U": np.zeros(0, np.int64), "first_use_K": np.zeros(len(keys) + 1, np.int64)}
    uses = accesses.uses if "future" in kind.needs else none
    keys["next_use_at"] = uses["first_use_K"][:-1]
    draws = len(accesses.key_A) + DRAWN_ANEW if "rng" in kind.needs else 1
    memory = Pointed(MEMORY, ARRAYS, policy=COMPILED_CACHES[kind], experts=experts, broken=-1)
    memory.put(
        keys_K=keys, caches_C=records, free_CS=free_slots(records),
        protected_CK=np.zeros((len(records), int(records["keys"].max())), np.int64),
        worth_K=np.array(caches[0].knowledge.importance or np.zeros(len(keys)), np.float64),
        draws=words_of(np.random.default_rng(seed), draws), **uses,
    )  # fmt: skip
    replay = Pointed(REPLAY, REPLAY_ARRAYS, announces=accesses.announced)
    replay.put(
        key_A=accesses.key_A, start_G=accesses.start_G, fresh_G=accesses.fresh_G,
        empty_K=keys.copy(), empty_C=records.copy(),
    )  # fmt: skip
    if (key := replay_accesses(replay, memory)) >= 0:
        raise RuntimeError(f"expert {key + caches[0].keys.start} finds no slot")
    return [Counts(**{name: int(rec[name]) for name in COUNTS}) for rec in records]
