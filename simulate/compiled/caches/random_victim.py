"""A random victim, compiled: its rule is that of `simulate.policies.caches.random_victim`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import is_kept
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, cache_at, draws, key_at
from moe_replay.simulate.policies.caches.random_victim import RandomVictim


@compiled
def draw_below(memory: Memory, count: int) -> int:
    """Return a random number below `count` as numpy's `Generator.integers` draws it: Lemire's method, 32 bits."""
    if count == 1:
        return 0
    while True:
        product = int(draws(memory)[memory.drawn]) * count
        memory.drawn += 1
        low = product & 0xFFFFFFFF
        if low >= count or low >= ((1 << 32) - count) % count:
            return product >> 32


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return any expert that may leave, each with the same probability."""
    rec, count = cache_at(memory, cache), 0
    key = rec.oldest
    while key >= 0:
        count += not is_kept(memory, key)
        key = key_at(memory, key).newer
    at = draw_below(memory, count)
    key = rec.oldest
    while True:
        if not is_kept(memory, key):
            if at == 0:
                return key
            at -= 1
        key = key_at(memory, key).newer


TWINS = {RandomVictim: CompiledPolicy(victim, ordered=False)}
