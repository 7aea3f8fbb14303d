"""Least stale, compiled: its rule is that of `simulate.policies.caches.least_stale`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import first_from
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_accessors import cache_at, key_at
from moe_replay.simulate.compiled.memory.memory_layout import Memory


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
