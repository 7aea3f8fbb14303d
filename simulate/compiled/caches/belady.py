"""Belady's optimum and the one that may decline, compiled: its rule is that of `simulate.policies.caches.belady`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import any_may_leave, is_kept
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import NO_USE, Memory, cache_at, first_use_K, key_at, uses_U
from moe_replay.simulate.policies.caches.belady import Belady, BeladyBypass


@compiled
def next_use(memory: Memory, key: int, position: int) -> int:
    """Return the first access of an expert at or after a position of its cache; beyond all if there is none."""
    own, end = key_at(memory, key), first_use_K(memory)[key + 1]
    while own.next_use_at < end and uses_U(memory)[own.next_use_at] < position:
        own.next_use_at += 1
    return uses_U(memory)[own.next_use_at] if own.next_use_at < end else NO_USE


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the expert whose next use is farthest away; of equals the first admitted."""
    rec, found, most = cache_at(memory, cache), -1, -1
    key = rec.oldest
    while key >= 0:
        if not is_kept(memory, key):
            use = next_use(memory, key, rec.accesses)
            if use > most:
                found, most = key, use
        key = key_at(memory, key).newer
    return found


@compiled
def wants(memory: Memory, key: int) -> bool:
    """Say whether an expert is used again before one that could leave for it."""
    cache = key_at(memory, key).cache
    rec = cache_at(memory, cache)
    if rec.free > 0:
        return True
    if not any_may_leave(memory, cache):
        return False
    return next_use(memory, key, rec.accesses) < next_use(memory, victim(memory, cache), rec.accesses)


TWINS = {
    Belady: CompiledPolicy(victim, ordered=False),
    BeladyBypass: CompiledPolicy(victim, wants, ordered=False),
}
