"""What the compiled form of a cache policy consists of: functions, of which each has a default.

Every module beside this one that bears a policy's name has `TWINS`: the policies of `simulate.policies.caches` that are
compiled there, each with its `CompiledPolicy`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import SMALL, Memory, key_at


@compiled
def nobody(memory: Memory, cache: int) -> int:
    """Let nobody leave."""
    return -1


@compiled
def told_beforehand(memory: Memory, key: int) -> bool:
    """Want what the record of an expert says; by default that is every expert."""
    return key_at(memory, key).wanted != 0


@compiled
def to_the_end(memory: Memory, cache: int, key: int) -> int:
    """Put an expert that was given a slot at the end of the order: return the only queue."""
    return SMALL


@compiled
def nothing(memory: Memory, cache: int, key: int) -> None:
    """Note nothing."""


@dataclass(frozen=True)
class CompiledPolicy:
    """The functions of one policy; `ordered` says whether it keeps an order of its own, by which they go.

    `victim(memory, cache)` returns the expert that leaves, where one may. `wants(memory, key)` says whether an expert
    without a slot is to have one. `note_insert(memory, cache, key)` returns the queue that an expert with a new slot
    joins. `note_touch` notes the access of an expert with a slot, `note_miss` that of one without, and `note_remove` an
    expert that leaves.
    """

    victim: Callable[[Memory, int], int] = nobody
    wants: Callable[[Memory, int], bool] = told_beforehand
    note_insert: Callable[[Memory, int, int], int] = to_the_end
    note_touch: Callable[[Memory, int, int], None] = nothing
    note_miss: Callable[[Memory, int, int], None] = nothing
    note_remove: Callable[[Memory, int, int], None] = nothing
    ordered: bool = True
