"""FIFO, compiled: its rule is that of `simulate.policies.caches.fifo`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import first_from
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, cache_at
from moe_replay.simulate.policies.caches.fifo import FIFO


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the first admitted that may leave."""
    return first_from(memory, cache_at(memory, cache).first)


TWINS = {FIFO: CompiledPolicy(victim)}
