"""What each cache policy keeps and whom it lets go: the small files of `simulate.policies.caches`, policy by policy."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache_orders import append, append_ghost, drop, drop_ghost, move_last
from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.memory.memory_accessors import cache_at, draws, first_use_K, key_at, uses_U, worth_K
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
    MAIN,
    ORDERED,
    RANDOM,
    S3FIFO,
    SIEVE,
    SMALL,
    Memory,
)
from moe_replay.simulate.policies.caches.s3fifo import MOST_USES


@compiled
def is_ordered(policy: int) -> bool:
    """Say whether a policy keeps an order of its own."""
    return policy in ORDERED


@compiled
def wants(memory: Memory, key: int) -> bool:
    """Say whether the policy would give an expert, which holds no slot, one at all."""
    own = key_at(memory, key)
    if memory.policy != BELADY_BYPASS:
        return own.wanted != 0
    rec = cache_at(memory, own.cache)
    if rec.free > 0:
        return True
    if not any_may_leave(memory, own.cache):
        return False
    return next_use(memory, key, rec.accesses) < next_use(memory, farthest(memory, own.cache), rec.accesses)


@compiled
def note_miss(memory: Memory, cache: int, key: int) -> None:
    """Note the access of an expert that holds no slot."""
    cache_at(memory, cache).layer = key // memory.experts


@compiled
def note_insert(memory: Memory, cache: int, key: int) -> None:
    """Note that an expert has been given a slot."""
    policy, own, rec = memory.policy, key_at(memory, key), cache_at(memory, cache)
    if not is_ordered(policy):
        return
    where = SMALL
    if policy == S3FIFO:
        own.uses = 0
        if own.ghost:
            drop_ghost(memory, cache, key)
            where = MAIN
    elif policy in (LFU, LFRU):
        own.uses = 1
        own.last = rec.accesses
    append(memory, cache, key, where)


@compiled
def note_touch(memory: Memory, cache: int, key: int) -> None:
    """Note the access of an expert that holds a slot."""
    policy, own, rec = memory.policy, key_at(memory, key), cache_at(memory, cache)
    rec.layer = key // memory.experts
    if policy in (LRU, LFU, LFRU, LIFO_USE, LEAST_STALE):
        move_last(memory, cache, key)
        own.uses += 1
        own.last = rec.accesses
    elif policy == S3FIFO:
        own.uses = min(own.uses + 1, MOST_USES)
    elif policy == SIEVE:
        own.used = 1


@compiled
def note_remove(memory: Memory, cache: int, key: int) -> None:
    """Forget an expert that leaves its slot; SIEVE's hand goes on to the one after it, the oldest after the newest."""
    policy, own, rec = memory.policy, key_at(memory, key), cache_at(memory, cache)
    if not is_ordered(policy):
        return
    if policy == SIEVE:
        own.used = 0
        if rec.hand == key:
            rec.hand = own.after
    drop(memory, cache, key)


@inlined
def is_kept(memory: Memory, key: int) -> bool:
    """Say whether an expert may not leave: it runs, is in flight, was demanded or is protected."""
    own = key_at(memory, key)
    return own.in_flight or own.running or own.promised or own.protected


@compiled
def any_may_leave(memory: Memory, cache: int) -> bool:
    """Say whether any expert in a slot may leave."""
    key = cache_at(memory, cache).oldest
    while key >= 0:
        if not is_kept(memory, key):
            return True
        key = key_at(memory, key).newer
    return False


@compiled
def victim(memory: Memory, cache: int) -> int:
    """Return the expert that the policy evicts; one may leave."""
    policy = memory.policy
    if policy in (FIFO, LRU):
        return first_from(memory, cache_at(memory, cache).first)
    if policy in (LFU, LFRU):
        return least_used(memory, cache, policy == LFRU)
    if policy in (LIFO, LIFO_USE):
        return last_in(memory, cache)
    if policy == SIEVE:
        return under_hand(memory, cache)
    if policy == S3FIFO:
        return turned_out(memory, cache)
    if policy == LEAST_STALE:
        return least_stale(memory, cache)
    if policy == RANDOM:
        return drawn(memory, cache)
    if policy == IMPORTANCE:
        return least_important(memory, cache)
    return farthest(memory, cache) if policy in (BELADY, BELADY_BYPASS) else -1


@compiled
def first_from(memory: Memory, key: int) -> int:
    """Return the first expert of the policy's order, from a key on, that may leave; -1 if there is none."""
    while key >= 0 and is_kept(memory, key):
        key = key_at(memory, key).after
    return key


@compiled
def least_used(memory: Memory, cache: int, over_age: bool) -> int:
    """Return the expert with the fewest uses (over age); of equals the first in the order."""
    rec, found, least = cache_at(memory, cache), -1, 0.0
    key = rec.first
    while key >= 0:
        own = key_at(memory, key)
        if not is_kept(memory, key):
            value = own.uses / (rec.accesses + 1 - own.last) if over_age else float(own.uses)
            if found < 0 or value < least:
                found, least = key, value
        key = own.after
    return found


@compiled
def last_in(memory: Memory, cache: int) -> int:
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


@compiled
def under_hand(memory: Memory, cache: int) -> int:
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


@compiled
def turned_out(memory: Memory, cache: int) -> int:
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


@compiled
def least_stale(memory: Memory, cache: int) -> int:
    """Return the expert used longest ago of the layers reached; of those to come if there is none."""
    rec = cache_at(memory, cache)
    end = (rec.layer + 1) * memory.experts
    first = key = first_from(memory, rec.first)
    while key >= 0:
        if key < end:
            return key
        key = first_from(memory, key_at(memory, key).after)
    return first


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
def drawn(memory: Memory, cache: int) -> int:
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


@compiled
def least_important(memory: Memory, cache: int) -> int:
    """Return the least important expert; of equals the first admitted."""
    found, key = -1, cache_at(memory, cache).oldest
    while key >= 0:
        if not is_kept(memory, key) and (found < 0 or worth_K(memory)[key] < worth_K(memory)[found]):
            found = key
        key = key_at(memory, key).newer
    return found


@compiled
def next_use(memory: Memory, key: int, position: int) -> int:
    """Return the first access of an expert at or after a position of its cache; beyond all if there is none."""
    own, end = key_at(memory, key), first_use_K(memory)[key + 1]
    while own.next_use_at < end and uses_U(memory)[own.next_use_at] < position:
        own.next_use_at += 1
    return uses_U(memory)[own.next_use_at] if own.next_use_at < end else 1 << 62


@compiled
def farthest(memory: Memory, cache: int) -> int:
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
