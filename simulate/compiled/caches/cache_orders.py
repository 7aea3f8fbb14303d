"""The orders in which a cache keeps its experts: by admission, by its policy, and S3-FIFO's main queue and ghosts."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled, inlined
from moe_replay.simulate.compiled.memory.memory_layout import MAIN, SMALL, Memory, cache_at, key_at


@compiled
def append_admitted(memory: Memory, cache: int, key: int) -> None:
    """Put a key at the end of the order of admission."""
    rec, own = cache_at(memory, cache), key_at(memory, key)
    own.older, own.newer = rec.newest, -1
    if rec.newest < 0:
        rec.oldest = key
    else:
        key_at(memory, rec.newest).newer = key
    rec.newest = key


@compiled
def drop_admitted(memory: Memory, cache: int, key: int) -> None:
    """Take a key out of the order of admission."""
    rec, own = cache_at(memory, cache), key_at(memory, key)
    if own.older < 0:
        rec.oldest = own.newer
    else:
        key_at(memory, own.older).newer = own.newer
    if own.newer < 0:
        rec.newest = own.older
    else:
        key_at(memory, own.newer).older = own.older


@compiled
def append(memory: Memory, cache: int, key: int, where: int) -> None:
    """Put a key at the end of the policy's order; S3-FIFO has two, of which SMALL is the one that others use."""
    rec, own = cache_at(memory, cache), key_at(memory, key)
    own.where, own.after = where, -1
    own.before = rec.main_last if where == MAIN else rec.last
    if own.before >= 0:
        key_at(memory, own.before).after = key
    if where == MAIN:
        rec.main_last = key
        if own.before < 0:
            rec.main_first = key
    else:
        rec.last = key
        rec.small += 1
        if own.before < 0:
            rec.first = key


@compiled
def drop(memory: Memory, cache: int, key: int) -> None:
    """Take a key out of the policy's order."""
    rec, own = cache_at(memory, cache), key_at(memory, key)
    in_main = own.where == MAIN
    if own.before >= 0:
        key_at(memory, own.before).after = own.after
    elif in_main:
        rec.main_first = own.after
    else:
        rec.first = own.after
    if own.after >= 0:
        key_at(memory, own.after).before = own.before
    elif in_main:
        rec.main_last = own.before
    else:
        rec.last = own.before
    if not in_main:
        rec.small -= 1
    own.where = 0


@compiled
def move_last(memory: Memory, cache: int, key: int) -> None:
    """Move a key of the policy's order to its end."""
    if cache_at(memory, cache).last != key:
        drop(memory, cache, key)
        append(memory, cache, key, SMALL)


@compiled
def append_ghost(memory: Memory, cache: int, key: int) -> None:
    """Remember an evicted key as the newest ghost; forget the oldest where there are too many."""
    rec, own = cache_at(memory, cache), key_at(memory, key)
    if not own.ghost:
        own.ghost, own.ghost_before, own.ghost_after = 1, rec.ghost_last, -1
        if rec.ghost_last < 0:
            rec.ghost_first = key
        else:
            key_at(memory, rec.ghost_last).ghost_after = key
        rec.ghost_last = key
        rec.ghosts += 1
    if rec.ghosts > rec.slots - rec.small_slots:
        drop_ghost(memory, cache, rec.ghost_first)


@compiled
def drop_ghost(memory: Memory, cache: int, key: int) -> None:
    """Forget a ghost."""
    rec, own = cache_at(memory, cache), key_at(memory, key)
    own.ghost = 0
    rec.ghosts -= 1
    if own.ghost_before < 0:
        rec.ghost_first = own.ghost_after
    else:
        key_at(memory, own.ghost_before).ghost_after = own.ghost_after
    if own.ghost_after < 0:
        rec.ghost_last = own.ghost_before
    else:
        key_at(memory, own.ghost_after).ghost_before = own.ghost_before


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
def first_from(memory: Memory, key: int) -> int:
    """Return the first expert of the policy's order, from a key on, that may leave; -1 if there is none."""
    while key >= 0 and is_kept(memory, key):
        key = key_at(memory, key).after
    return key
