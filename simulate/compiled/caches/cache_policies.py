"""Asks the cache policy of a run whether it wants an expert, what it notes, and whom it lets go.

The functions that ask are made from the `TWINS` of the modules beside this one (`compiled_policy`).
"""

from __future__ import annotations

from collections.abc import Callable

from moe_replay.simulate.compiled.caches.cache_orders import append, drop
from moe_replay.simulate.compiled.caches.compiled_policy import CompiledPolicy
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory
from moe_replay.simulate.compiled.rule_calls import call_by_number, rules_of, twins_of
from moe_replay.simulate.compiled.rule_numbers import CACHE_NUMBERS

TWINS: dict[int, CompiledPolicy] = twins_of(__package__, CACHE_NUMBERS)
ORDERED = tuple(number for number, twin in TWINS.items() if twin.ordered)


def asking(field: str, arguments: str) -> Callable:
    """Return the function of compiled code that calls what the run's policy has in a field of `CompiledPolicy`."""
    default = getattr(CompiledPolicy, field)
    return call_by_number(field, arguments, "memory.policy", rules_of(TWINS, field, default), default)


victim = asking("victim", "memory, cache")
wants = asking("wants", "memory, key")
note_miss = asking("note_miss", "memory, cache, key")
note_touch = asking("note_touch", "memory, cache, key")
note_insert = asking("note_insert", "memory, cache, key")
note_remove = asking("note_remove", "memory, cache, key")


@compiled
def join_order(memory: Memory, cache: int, key: int) -> None:
    """Put an expert that has been given a slot into the policy's order, where it keeps one."""
    if memory.policy in ORDERED:
        append(memory, cache, key, note_insert(memory, cache, key))


@compiled
def leave_order(memory: Memory, cache: int, key: int) -> None:
    """Take an expert that leaves its slot out of the policy's order."""
    if memory.policy in ORDERED:
        note_remove(memory, cache, key)
        drop(memory, cache, key)
