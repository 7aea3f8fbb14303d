"""The least important, compiled: its rule is that of `simulate.policies.caches.importance`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import is_kept
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, cache_at, key_at, worth_K
from moe_replay.simulate.policies.caches.importance import Importance


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the least important expert; of equals the first admitted."""
    found, key = -1, cache_at(memory, cache).oldest
    while key >= 0:
        if not is_kept(memory, key) and (found < 0 or worth_K(memory)[key] < worth_K(memory)[found]):
            found = key
        key = key_at(memory, key).newer
    return found


TWINS = {Importance: CompiledPolicy(victim, ordered=False)}
