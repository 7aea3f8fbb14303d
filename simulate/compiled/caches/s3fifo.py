"""S3-FIFO, compiled: its rule is that of `simulate.policies.caches.s3fifo`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import append, append_ghost, drop, drop_ghost, first_from
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import MAIN, SMALL, Memory, cache_at, key_at
from moe_replay.simulate.policies.caches.s3fifo import MOST_USES, S3FIFO


@compiled
def note_insert(memory: Memory, cache: int, key: int) -> int:
    """Forget the uses before, and the ghost; return the queue that an expert belongs to."""
    own = key_at(memory, key)
    own.uses = 0
    if own.ghost:
        drop_ghost(memory, cache, key)
        return MAIN
    return SMALL


@compiled
def note_touch(memory: Memory, cache: int, key: int) -> None:
    """Count a use, as far as it counts."""
    own = key_at(memory, key)
    own.uses = min(own.uses + 1, MOST_USES)


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Turn S3-FIFO's queues until one gives an expert up."""
    rec = cache_at(memory, cache)
    while True:
        small, main = first_from(memory, rec.first), first_from(memory, rec.main_first)
        if small >= 0 and (main < 0 or rec.small >= rec.small_slots):
            if key_at(memory, small).uses <= 1:
                append_ghost(memory, cache, small)
                return small
            drop(memory, cache, small)
            append(memory, cache, small, MAIN)
            key_at(memory, small).uses = 0
        else:
            if key_at(memory, main).uses == 0:
                return main
            drop(memory, cache, main)
            append(memory, cache, main, MAIN)
            key_at(memory, main).uses -= 1


TWINS = {S3FIFO: CompiledPolicy(victim, note_insert=note_insert, note_touch=note_touch)}
