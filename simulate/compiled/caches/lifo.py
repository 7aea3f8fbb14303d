"""LIFO by admission and by use, compiled: its rule is that of `simulate.policies.caches.lifo`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches import lru
from moe_replay.simulate.compiled.caches.cache_orders import is_kept
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, cache_at, key_at
from moe_replay.simulate.policies.caches.lifo import LIFO, LIFOByUse


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the first expert that is not in the announced group, or the last of all."""
    rec = cache_at(memory, cache)
    if rec.announced > 0:
        key = rec.first
        while key >= 0:
            if key_at(memory, key).announced != rec.announced and not is_kept(memory, key):
                return key
            key = key_at(memory, key).after
    key = rec.last
    while is_kept(memory, key):
        key = key_at(memory, key).before
    return key


TWINS = {LIFO: CompiledPolicy(victim), LIFOByUse: CompiledPolicy(victim, note_touch=lru.note_touch)}
