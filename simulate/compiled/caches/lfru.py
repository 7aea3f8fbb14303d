"""LFRU, compiled: its rule is that of `simulate.policies.caches.lfru`. It counts as LFU does."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches import lfu, lru
from moe_replay.simulate.compiled.caches.cache_orders import is_kept
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, cache_at, key_at
from moe_replay.simulate.policies.caches.lfru import LFRU


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the expert with the fewest uses over its age; of equals the first in the order."""
    rec, found, least = cache_at(memory, cache), -1, 0.0
    key = rec.first
    while key >= 0:
        own = key_at(memory, key)
        if not is_kept(memory, key):
            value = own.uses / (rec.accesses + 1 - own.last)
            if found < 0 or value < least:
                found, least = key, value
        key = own.after
    return found


TWINS = {LFRU: CompiledPolicy(victim, note_insert=lfu.note_insert, note_touch=lru.note_touch)}
