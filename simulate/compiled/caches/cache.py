"""One cache, compiled: slots, protected members and every count, as in `simulate.policies.caches.cache`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import any_may_leave, append_admitted, drop_admitted
from moe_replay.simulate.compiled.caches.cache_policies import (
    join_order,
    leave_order,
    note_miss,
    note_touch,
    victim,
    wants,
)
from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.memory.memory_layout import (
    DELAYED,
    HIT,
    MISS,
    Memory,
    cache_at,
    free_CS,
    key_at,
    protected_CK,
)


@inlined
def is_resident(memory: Memory, key: int) -> bool:
    """Say whether the weights of an expert are in a slot and whole."""
    return key_at(memory, key).slot >= 0 and not key_at(memory, key).in_flight


@compiled
def clear_protected(memory: Memory, cache: int) -> None:
    """Begin to announce a group: nobody of the group before is protected any more."""
    rec = cache_at(memory, cache)
    for i in range(rec.protected):
        key_at(memory, protected_CK(memory)[cache, i]).protected = 0
    rec.protected = 0
    rec.announced += 1


@compiled
def protect(memory: Memory, cache: int, key: int) -> None:
    """Add an expert, which is not protected, to the group that is being announced."""
    rec, own = cache_at(memory, cache), key_at(memory, key)
    protected_CK(memory)[cache, rec.protected] = key
    rec.protected += 1
    own.protected, own.announced = 1, rec.announced


@compiled
def announce_anew(memory: Memory, cache: int) -> None:
    """Announce those that are protected still, as a group of their own that others may join."""
    rec = cache_at(memory, cache)
    rec.announced += 1
    for i in range(rec.protected):
        key_at(memory, protected_CK(memory)[cache, i]).announced = rec.announced


@compiled
def leave_turn(memory: Memory, cache: int, key: int) -> None:
    """Keep an expert for its turn no longer: it runs, here or elsewhere."""
    key_at(memory, key).promised = 0
    if not key_at(memory, key).protected:
        return
    rec, order = cache_at(memory, cache), protected_CK(memory)
    key_at(memory, key).protected = 0
    at = 0
    while order[cache, at] != key:
        at += 1
    rec.protected -= 1
    for i in range(at, rec.protected):
        order[cache, i] = order[cache, i + 1]


@compiled
def start_running(memory: Memory, key: int) -> None:
    """Let an expert run: it is not evicted until `running` says no."""
    own = key_at(memory, key)
    if not is_resident(memory, key) and cache_at(memory, own.cache).passing != key:
        memory.broken = key
    leave_turn(memory, own.cache, key)
    own.running = 1


@compiled
def access(memory: Memory, key: int) -> int:
    """Count one demand for an expert; return what it met."""
    own = key_at(memory, key)
    rec = cache_at(memory, own.cache)
    rec.accesses += 1
    if own.slot < 0:
        rec.misses += 1
        note_miss(memory, own.cache, key)
        return MISS
    if own.unused:
        own.unused = 0
        rec.prefetches_used += 1
    note_touch(memory, own.cache, key)
    if own.in_flight:
        rec.delayed_hits += 1
        return DELAYED
    rec.hits += 1
    return HIT


@compiled
def choose(memory: Memory, cache: int, key: int, prefetch: bool) -> int:
    """Return the expert that leaves for another, -1 if nobody may."""
    if any_may_leave(memory, cache):
        return victim(memory, cache)
    if prefetch:
        return -1
    order, first = protected_CK(memory), 0
    last = cache_at(memory, cache).protected - 1
    for i in range(last + 1):
        if order[cache, i] == key:
            first = i + 1
    for i in range(last, first - 1, -1):
        own = key_at(memory, order[cache, i])
        if own.slot >= 0 and not own.in_flight and not own.running and not own.promised:
            return order[cache, i]
    return -1


@compiled
def admit(memory: Memory, key: int, prefetch: bool) -> tuple[bool, int]:
    """Give an expert a slot and begin its transfer; return (whether it has one, the expert that left, -1: none)."""
    own = key_at(memory, key)
    cache = own.cache
    rec = cache_at(memory, cache)
    leaving, wanted = -1, wants(memory, key)
    if wanted and rec.free == 0:
        leaving = choose(memory, cache, key, prefetch)
    if not wanted or (rec.free == 0 and leaving < 0):
        rec.prefetches_dropped += prefetch
        return False, -1
    if rec.free == 0:
        evict(memory, cache, leaving)
    rec.free -= 1
    own.slot = free_CS(memory)[cache, rec.free]
    own.in_flight = 1
    append_admitted(memory, cache, key)
    if prefetch:
        rec.prefetches += 1
        own.unused = 1
    else:
        rec.loads += 1
    join_order(memory, cache, key)
    return True, leaving


@compiled
def evict(memory: Memory, cache: int, key: int) -> None:
    """Take an expert's slot."""
    rec, own = cache_at(memory, cache), key_at(memory, key)
    leave_order(memory, cache, key)
    drop_admitted(memory, cache, key)
    free_CS(memory)[cache, rec.free] = own.slot
    rec.free += 1
    own.slot, own.unused = -1, 0
    rec.evictions += 1
