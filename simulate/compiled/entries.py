"""The functions of compiled code that Python runs; they take the addresses of records and return a number.

Importing this compiles nothing yet, but takes numba and every function of the engine; `machine_code` does it only where
no machine code is kept.
"""

from __future__ import annotations

from simulate.compiled.instant import go_on
from simulate.compiled.intrinsics import record_at
from simulate.compiled.jit import compiled
from simulate.compiled.layout import RUN
from simulate.compiled.memory.accessors import filling_F, key_at
from simulate.compiled.memory.caches import admit
from simulate.compiled.memory.layout import MEMORY, Memory

world_at, checked_world_at = record_at(RUN), record_at(RUN, checked=True)
memory_at, checked_memory_at = record_at(MEMORY), record_at(MEMORY, checked=True)


@compiled
def play_resident(world: int) -> int:
    """Play a run until it is over or needs something; return which."""
    return go_on(world_at(world), None, None)


@compiled
def play_with_memory(world: int, memory: int) -> int:
    """Play a run with expert memory, likewise."""
    return go_on(world_at(world), memory_at(memory), None)


@compiled
def play_masked(world: int, memory: int) -> int:
    """Play a run with expert memory and masked gating, likewise."""
    return go_on(world_at(world), memory_at(memory), 1)


@compiled
def fill(memory: int) -> int:
    """Give experts the slots that they hold before the run; return how many."""
    return fill_slots(memory_at(memory))


@compiled
def play_resident_checked(world: int) -> int:
    """`play_resident` in the checked form (`checking`)."""
    return go_on(checked_world_at(world), None, None)


@compiled
def play_with_memory_checked(world: int, memory: int) -> int:
    """`play_with_memory` in the checked form."""
    return go_on(checked_world_at(world), checked_memory_at(memory), None)


@compiled
def play_masked_checked(world: int, memory: int) -> int:
    """`play_masked` in the checked form."""
    return go_on(checked_world_at(world), checked_memory_at(memory), 1)


@compiled
def fill_checked(memory: int) -> int:
    """`fill` in the checked form."""
    return fill_slots(checked_memory_at(memory))


@compiled
def fill_slots(memory: Memory) -> int:
    """Give experts slots in the order of `filling_F`; return how many."""
    filled = 0
    for key in filling_F(memory):
        admit(memory, key, True)
        key_at(memory, key).in_flight = 0
        key_at(memory, key).unused = 0
        filled += 1
    return filled
