"""LFU, compiled: its rule is that of `simulate.policies.caches.lfu`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches import lru
from moe_replay.simulate.compiled.caches.cache_orders import is_kept
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import SMALL, Memory, cache_at, key_at
from moe_replay.simulate.policies.caches.lfu import LFU


@compiled
def note_insert(memory: Memory, cache: int, key: int) -> int:
    """Count the access that an expert was given its slot for; return the only queue."""
    own = key_at(memory, key)
    own.uses = 1
    own.last = cache_at(memory, cache).accesses
    return SMALL


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the expert with the fewest uses; of equals the first in the order."""
    found, least, key = -1, 0, cache_at(memory, cache).first
    while key >= 0:
        own = key_at(memory, key)
        if not is_kept(memory, key) and (found < 0 or own.uses < least):
            found, least = key, own.uses
        key = own.after
    return found


TWINS = {LFU: CompiledPolicy(victim, note_insert=note_insert, note_touch=lru.note_touch)}
