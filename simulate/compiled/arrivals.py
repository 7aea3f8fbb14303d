"""Arrivals, compiled: which passes the end of others releases, as in `simulate.policies.arrivals`."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.rule_numbers import CLOSED, STEPS
from moe_replay.simulate.compiled.run_layout import (
    NEVER,
    World,
    arriving_P,
    held_G,
    of_step_P,
    pass_at,
    planned_A,
    start_S,
    steps_S,
    times_A,
)


@compiled
def next_arrival(world: World) -> int:
    """Return when the next arrival is due by itself."""
    at = world.due
    return times_A(world)[at] if at < len(times_A(world)) else NEVER


@compiled
def let_arrive(world: World, now: int) -> None:
    """List the passes that arrive by themselves up to now."""
    while world.due < len(times_A(world)) and times_A(world)[world.due] <= now:
        arriving_P(world)[world.arriving] = planned_A(world)[world.due]
        world.arriving += 1
        world.due += 1


@compiled
def release(world: World, p: int) -> None:
    """List the pass that the end of a pass releases, or under `steps` those of the next step after its last."""
    rec = pass_at(world, p)
    if world.arrivals == STEPS:
        release_step(world, rec.releases)
        return
    follower = rec.releases
    if follower < 0 and world.arrivals == CLOSED and world.held_back < len(held_G(world)):
        follower = held_G(world)[world.held_back]
        world.held_back += 1
    if follower >= 0:
        # Each pass arrives once, so that the list has room for all of them.
        arriving_P(world)[world.arriving] = follower
        world.arriving += 1


@compiled
def release_step(world: World, step: int) -> None:
    """Count a finished pass of a step; after the last one the passes of the next step arrive."""
    steps_S(world)[step] -= 1
    if steps_S(world)[step] > 0 or step + 1 >= len(steps_S(world)):
        return
    # A step's passes finish in any order and round; only the last of them releases, all of the next step at once.
    world.arriving = 0
    for at in range(start_S(world)[step + 1], start_S(world)[step + 2]):
        arriving_P(world)[world.arriving] = of_step_P(world)[at]
        world.arriving += 1


@compiled
def sort_arriving(world: World) -> None:
    """Sort the released passes by the order of the workload, with Shell's method, since most are in it already."""
    arriving, gap = arriving_P(world), 1
    # Gaps of Knuth's sequence, 1, 4, 13, ...: no recursion and no room of its own, unlike a library's sort.
    while gap < world.arriving // 3:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, world.arriving):
            p, j = arriving[i], i
            while j >= gap and arriving[j - gap] > p:
                arriving[j] = arriving[j - gap]
                j -= gap
            arriving[j] = p
        gap //= 3
