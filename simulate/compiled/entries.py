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
from simulate.compiled.memory.layout import MEMORY

world_at = record_at(RUN)
memory_at = record_at(MEMORY)


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
    """Give experts the slots that they hold before the run, in the order of `filling_F`; return how many."""
    filled = 0
    for key in filling_F(memory_at(memory)):
        admit(memory_at(memory), key, True)
        key_at(memory_at(memory), key).in_flight = 0
        key_at(memory_at(memory), key).unused = 0
        filled += 1
    return filled
