"""Asks the cache policy of a run whether it wants an expert, what it notes, and whom it lets go.

Every file here has the rule of the file of the same name in `simulate.policies.caches`; `none` and `static` have
nothing to note, and nobody leaves them.
"""

from __future__ import annotations

from moe_replay.simulate.compiled.caches import (
    belady,
    fifo,
    importance,
    least_stale,
    lfru,
    lfu,
    lifo,
    lru,
    random_victim,
    s3fifo,
    sieve,
)
from moe_replay.simulate.compiled.caches.cache_orders import append, drop
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_accessors import cache_at, key_at
from moe_replay.simulate.compiled.memory.memory_layout import (
    BELADY,
    BELADY_BYPASS,
    FIFO,
    IMPORTANCE,
    LEAST_STALE,
    LFRU,
    LFU,
    LIFO,
    LIFO_USE,
    LRU,
    ORDERED,
    RANDOM,
    S3FIFO,
    SIEVE,
    SMALL,
    Memory,
)


@compiled
def is_ordered(policy: int) -> bool:
    """Say whether a policy keeps an order of its own."""
    return policy in ORDERED


@compiled
def wants(memory: Memory, key: int) -> bool:
    """Say whether the policy would give an expert, which holds no slot, one at all."""
    return belady.wants(memory, key) if memory.policy == BELADY_BYPASS else key_at(memory, key).wanted != 0


@compiled
def note_miss(memory: Memory, cache: int, key: int) -> None:
    """Note the access of an expert that holds no slot."""
    cache_at(memory, cache).layer = key // memory.experts


@compiled
def note_insert(memory: Memory, cache: int, key: int) -> None:
    """Note that an expert has been given a slot."""
    policy, where = memory.policy, SMALL
    if not is_ordered(policy):
        return
    if policy == S3FIFO:
        where = s3fifo.note_insert(memory, cache, key)
    elif policy in (LFU, LFRU):
        lfu.note_insert(memory, cache, key)
    append(memory, cache, key, where)


@compiled
def note_touch(memory: Memory, cache: int, key: int) -> None:
    """Note the access of an expert that holds a slot."""
    policy = memory.policy
    cache_at(memory, cache).layer = key // memory.experts
    if policy in (LRU, LFU, LFRU, LIFO_USE, LEAST_STALE):
        lru.note_touch(memory, cache, key)
    elif policy == S3FIFO:
        s3fifo.note_touch(memory, key)
    elif policy == SIEVE:
        sieve.note_touch(memory, key)


@compiled
def note_remove(memory: Memory, cache: int, key: int) -> None:
    """Forget an expert that leaves its slot."""
    if not is_ordered(memory.policy):
        return
    if memory.policy == SIEVE:
        sieve.note_remove(memory, cache, key)
    drop(memory, cache, key)


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the expert that the policy evicts; one may leave."""
    policy = memory.policy
    if policy == FIFO:
        return fifo.victim(memory, cache)
    if policy == LRU:
        return lru.victim(memory, cache)
    if policy == LFU:
        return lfu.victim(memory, cache)
    if policy == LFRU:
        return lfru.victim(memory, cache)
    if policy in (LIFO, LIFO_USE):
        return lifo.victim(memory, cache)
    if policy == SIEVE:
        return sieve.victim(memory, cache)
    if policy == S3FIFO:
        return s3fifo.victim(memory, cache)
    if policy == LEAST_STALE:
        return least_stale.victim(memory, cache)
    if policy == RANDOM:
        return random_victim.victim(memory, cache)
    if policy == IMPORTANCE:
        return importance.victim(memory, cache)
    return belady.victim(memory, cache) if policy in (BELADY, BELADY_BYPASS) else -1
