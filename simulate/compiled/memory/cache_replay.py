"""Accesses replayed through caches without time, compiled: groups one after another, a miss is loaded at once.

The rules are those of `simulate.misses.group_misses` and `simulate.misses.flat_misses`.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.arrays import ArrayLayout
from moe_replay.simulate.compiled.caches.cache import access, admit, clear_protected, leave_turn, protect
from moe_replay.simulate.compiled.caches.cache_policies import wants
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import (
    CACHE,
    KEY,
    MISS,
    NO_USE,
    Memory,
    cache_at,
    caches_C,
    first_use_K,
    free_CS,
    key_at,
    keys_K,
    uses_U,
)
from moe_replay.simulate.compiled.pointers import pointers_field

# The accesses `key_A`, of which group g has those from `start_G[g]` to `start_G[g + 1]`. Before it caches are emptied
# where `fresh_G` says so: every key and cache is then as in `empty_K` and `empty_C`.
REPLAY_ARRAYS = ArrayLayout()
key_A = REPLAY_ARRAYS.array("key_A", np.dtype("i4"))
start_G = REPLAY_ARRAYS.array("start_G", np.dtype("i8"))
fresh_G = REPLAY_ARRAYS.array("fresh_G", np.dtype("i1"))
empty_K = REPLAY_ARRAYS.array("empty_K", KEY)
empty_C = REPLAY_ARRAYS.array("empty_C", CACHE)

REPLAY = np.dtype([("announces", "i8"), pointers_field(REPLAY_ARRAYS)])

Replay = np.void  # one record of REPLAY


@compiled
def replay_all(replay: Replay, memory: Memory) -> None:
    """Run all groups in order; stop where a demand has nowhere to go, which `memory.broken` then says."""
    for g in range(len(fresh_G(replay))):
        first, end = start_G(replay)[g], start_G(replay)[g + 1]
        if fresh_G(replay)[g]:
            empty_caches(replay, memory)
        if replay.announces:
            # A group's members are of one layer, and so of one cache: the first says which.
            clear_protected(memory, key_at(memory, key_A(replay)[first]).cache)
            for a in range(first, end):
                # The whole group before its first access: a member that runs later must not leave for an earlier one.
                protect(memory, key_at(memory, key_A(replay)[a]).cache, key_A(replay)[a])
        for a in range(first, end):
            demand(memory, key_A(replay)[a])
            if memory.broken >= 0:
                return


@compiled
def demand(memory: Memory, key: int) -> None:
    """Access an expert whose transfer takes no time, and let it run."""
    own = key_at(memory, key)
    if access(memory, key) == MISS:
        admitted, _ = admit(memory, key, False)
        own.in_flight = 0  # there is no time: what was asked for is here
        if not admitted:
            cache_at(memory, own.cache).declined += 1
            # Not declined, and yet without a slot: nobody may leave, which no policy may bring about.
            if wants(memory, key):
                memory.broken = key
    leave_turn(memory, own.cache, key)


@compiled
def empty_caches(replay: Replay, memory: Memory) -> None:
    """Forget everything but the counts, and go on to the uses behind the next end of a stretch."""
    for key in range(len(keys_K(memory))):
        # The optimum's uses of different stretches are parted by NO_USE: those of the next stretch begin behind it.
        at, end = key_at(memory, key).next_use_at, first_use_K(memory)[key + 1]
        while at < end and uses_U(memory)[at] < NO_USE:
            at += 1
        keys_K(memory)[key] = empty_K(replay)[key]
        key_at(memory, key).next_use_at = min(at + 1, end)
    for cache in range(len(caches_C(memory))):
        rec = cache_at(memory, cache)
        # Saved field by field: a record as a whole would be a view of what is overwritten.
        accesses, hits, misses, loads = rec.accesses, rec.hits, rec.misses, rec.loads
        declined, evictions = rec.declined, rec.evictions
        caches_C(memory)[cache] = empty_C(replay)[cache]
        rec.accesses, rec.hits, rec.misses, rec.loads = accesses, hits, misses, loads
        rec.declined, rec.evictions = declined, evictions
        for i in range(rec.slots):
            free_CS(memory)[cache, i] = rec.slots - 1 - i
