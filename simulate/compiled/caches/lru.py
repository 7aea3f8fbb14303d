"""LRU, compiled: its rule is that of `simulate.policies.caches.lru`. Others that order by use are touched as it is."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import first_from, move_last
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, cache_at, key_at
from moe_replay.simulate.policies.caches.lru import LRU


@compiled
def note_touch(memory: Memory, cache: int, key: int) -> None:
    """Note a use: the expert goes to the end of the order."""
    own = key_at(memory, key)
    move_last(memory, cache, key)
    own.uses += 1
    own.last = cache_at(memory, cache).accesses


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the expert used longest ago that may leave."""
    return first_from(memory, cache_at(memory, cache).first)


TWINS = {LRU: CompiledPolicy(victim, note_touch=note_touch)}
