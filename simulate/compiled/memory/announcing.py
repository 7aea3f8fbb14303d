"""What is announced to caches and prefetchers, compiled: the experts of a stage, and the groups that are selected."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache import clear_protected, protect
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.expert_memory import meet
from moe_replay.simulate.compiled.memory.memory_layout import STEP, Memory, cache_at, entered_EN, key_at
from moe_replay.simulate.compiled.rule_numbers import LOAD
from moe_replay.simulate.compiled.run_layout import World, queue_at


@compiled
def begin_stage(world: World, memory: Memory, first: int, now: int) -> None:
    """Lockstep: the experts of a stage, ascending, are known; what is to be loaded is accessed at once.

    `first` is the queue of the layer's dense block; those of its experts that have members run in this stage.
    """
    memory.stamp += 1
    for queue in range(first + 1, first + world.width):
        if queue_at(world, queue).length > 0:
            cache = key_at(memory, queue_at(world, queue).key).cache
            # The first member of a cache in this stage ends the group announced before; the others join it.
            if cache_at(memory, cache).stamp != memory.stamp:
                cache_at(memory, cache).stamp = memory.stamp
                clear_protected(memory, cache)
            protect(memory, cache, queue_at(world, queue).key)
    # Elsewhere each queue is accessed at its turn, or when it joins its list.
    if memory.miss != LOAD or memory.hands_out:
        return
    # Only now, when all members are protected: a load must not take the slot of one that is about to run.
    for queue in range(first + 1, first + world.width):
        if queue_at(world, queue).length > 0:
            meet(world, memory, queue, now)


@compiled
def note_group(world: World, memory: Memory, p: int, layer: int) -> None:
    """Note the group that a pass selected: prefetchers look at it when its own demands are on their way."""
    if memory.prefetches:  # also where groups are only logged
        entered_EN(memory)[memory.entered, 0] = p
        entered_EN(memory)[memory.entered, 1] = layer
        memory.entered += 1


@compiled
def note_step(world: World, memory: Memory) -> None:
    """Note the group that the passes of a lockstep step selected together."""
    note_group(world, memory, STEP, world.stage >> 1)
