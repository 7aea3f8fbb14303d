"""Time-outs: a heap of the queues whose head has one pending, the next due first, and of equals the lowest queue."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.run_layout import World, queue_at, timed_Q


@compiled
def is_before(world: World, queue: int, other: int) -> bool:
    """Say whether a queue's time-out comes before another's."""
    due_ns, other_ns = queue_at(world, queue).due_ns, queue_at(world, other).due_ns
    return due_ns < other_ns or (due_ns == other_ns and queue < other)


@compiled
def put(world: World, queue: int, at: int) -> None:
    """Put a queue at a place of the heap."""
    timed_Q(world)[at] = queue
    queue_at(world, queue).timed_at = at


@compiled
def sift_up(world: World, at: int) -> None:
    """Let the queue at a place rise to where it belongs."""
    queue = timed_Q(world)[at]
    while at > 0 and is_before(world, queue, timed_Q(world)[(at - 1) // 2]):
        put(world, timed_Q(world)[(at - 1) // 2], at)
        at = (at - 1) // 2
    put(world, queue, at)


@compiled
def sift_down(world: World, at: int) -> None:
    """Let the queue at a place sink to where it belongs."""
    queue, count = timed_Q(world)[at], world.timed
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and is_before(world, timed_Q(world)[child + 1], timed_Q(world)[child]):
            child += 1
        if not is_before(world, timed_Q(world)[child], queue):
            break
        put(world, timed_Q(world)[child], at)
        at = child
    put(world, queue, at)


@compiled
def set_timeout(world: World, queue: int, due_ns: int) -> None:
    """Give the head of a queue, which has none pending, a time-out."""
    queue_at(world, queue).due_ns = due_ns
    at = world.timed
    world.timed = at + 1
    put(world, queue, at)
    sift_up(world, at)


@compiled
def drop_timeout(world: World, queue: int) -> None:
    """Forget the pending time-out of a queue, if there is one."""
    at = queue_at(world, queue).timed_at
    if at < 0:
        return
    queue_at(world, queue).timed_at = -1
    world.timed -= 1
    if at < world.timed:
        moved = timed_Q(world)[world.timed]
        put(world, moved, at)
        sift_up(world, at)
        sift_down(world, queue_at(world, moved).timed_at)
