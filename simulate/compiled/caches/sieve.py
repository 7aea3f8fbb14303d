"""SIEVE, compiled: its rule is that of `simulate.policies.caches.sieve`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import is_kept
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, cache_at, key_at
from moe_replay.simulate.policies.caches.sieve import Sieve


@compiled
def note_touch(memory: Memory, cache: int, key: int) -> None:
    """Mark an expert."""
    key_at(memory, key).used = 1


@compiled
def note_remove(memory: Memory, cache: int, key: int) -> None:
    """Let the hand go on from an expert that leaves to the one after it, the oldest after the newest."""
    own, rec = key_at(memory, key), cache_at(memory, cache)
    own.used = 0
    if rec.hand == key:
        rec.hand = own.after


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Move SIEVE's hand to the first expert that is not marked."""
    rec = cache_at(memory, cache)
    key = rec.hand if rec.hand >= 0 else rec.first
    while key_at(memory, key).used or is_kept(memory, key):
        if not is_kept(memory, key):
            key_at(memory, key).used = 0
        key = key_at(memory, key).after
        if key < 0:
            key = rec.first
    rec.hand = key
    return key


TWINS = {Sieve: CompiledPolicy(victim, note_touch=note_touch, note_remove=note_remove)}
