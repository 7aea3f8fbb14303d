"""Least stale, compiled: its rule is that of `simulate.policies.caches.least_stale`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches import lru
from moe_replay.simulate.compiled.caches.cache_orders import first_from
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, cache_at, key_at
from moe_replay.simulate.policies.caches.least_stale import LeastStale


@compiled
def note_miss(memory: Memory, cache: int, key: int) -> None:
    """Note the present layer."""
    cache_at(memory, cache).layer = key // memory.experts


@compiled
def note_touch(memory: Memory, cache: int, key: int) -> None:
    """Note the use and the present layer."""
    lru.note_touch(memory, cache, key)
    note_miss(memory, cache, key)


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the expert used longest ago of the layers reached; of those to come if there is none."""
    rec = cache_at(memory, cache)
    end = (rec.layer + 1) * memory.experts
    first = key = first_from(memory, rec.first)
    while key >= 0:
        if key < end:
            return key
        key = first_from(memory, key_at(memory, key).after)
    return first


TWINS = {LeastStale: CompiledPolicy(victim, note_touch=note_touch, note_miss=note_miss)}
