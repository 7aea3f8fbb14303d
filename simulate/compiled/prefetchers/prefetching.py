"""What is loaded ahead of its use, compiled: as in `simulate.policies.memory.expert_memory`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache import announce_anew, protect
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.expert_memory import load_ahead
from moe_replay.simulate.compiled.memory.memory_layout import (
    STEP,
    Memory,
    ahead_K,
    cache_at,
    entered_EN,
    group_E,
    key_at,
    log_group_G,
    log_member_M,
    stamp_K,
)
from moe_replay.simulate.compiled.prefetchers.prefetcher import CompiledPrefetcher
from moe_replay.simulate.compiled.rule_calls import call_by_number, rules_of, twins_of
from moe_replay.simulate.compiled.rule_numbers import PREFETCHER_NUMBERS
from moe_replay.simulate.compiled.run_layout import World, pass_at, step_P
from moe_replay.simulate.compiled.scheduler import expert_of, has_members

TWINS: dict[int, CompiledPrefetcher] = twins_of(__package__, PREFETCHER_NUMBERS)

observe_and_propose = call_by_number(
    "observe_and_propose", "memory, layer, sequence, members", "memory.prefetcher",
    rules_of(TWINS, "observe_and_propose", CompiledPrefetcher.observe_and_propose),
    CompiledPrefetcher.observe_and_propose,
)  # fmt: skip


@compiled
def prefetch_next(world: World, memory: Memory, masked: int | None) -> bool:
    """Let the prefetcher see the next group that was selected, and ask for what it proposes; False if none is left."""
    now = world.now
    if memory.entered_at >= memory.entered:
        memory.entered = memory.entered_at = 0
        return False
    p, layer = entered_EN(memory)[memory.entered_at, 0], entered_EN(memory)[memory.entered_at, 1]
    memory.entered_at += 1
    members, sequence = gather(world, memory, masked, p, layer)
    log_group(memory, layer, sequence, members)
    ahead = observe_and_propose(memory, layer, sequence, members)
    if memory.ordered:
        protect_ahead(memory, ahead)
    ahead = without_coming(memory, ahead)
    for i in range(ahead):
        load_ahead(world, memory, ahead_K(memory)[i], now)
    return True


@compiled
def gather(world: World, memory: Memory, masked: int | None, p: int, layer: int) -> tuple[int, int]:
    """List the experts of a group, ascending, in `group_E`; return (how many, the number of their sequence)."""
    memory.stamp += 1
    if p != STEP:
        return add_experts(world, memory, masked, p, layer, 0), pass_at(world, p).sequence
    members, sequence, working = 0, 0, 0
    for i in range(world.step):
        if has_members(world, step_P(world)[i], 2 * layer + 1):
            members = add_experts(world, memory, masked, step_P(world)[i], layer, members)
            sequence = pass_at(world, step_P(world)[i]).sequence
            working += 1
    return members, sequence if working == 1 else 0


@compiled
def add_experts(world: World, memory: Memory, masked: int | None, p: int, layer: int, members: int) -> int:
    """Add the experts that the tokens of a pass run in a layer to a group of so many; return how many it has then."""
    rec, group = pass_at(world, p), group_E(memory)
    for i in range(rec.tokens):
        row, token = rec.first_row + i, rec.offset + i
        for rank in range(world.k):
            expert = expert_of(world, masked, row, token, layer, rank)
            if expert < 0 or stamp_K(memory)[expert] == memory.stamp:
                continue
            stamp_K(memory)[expert] = memory.stamp
            at = members
            while at > 0 and group[at - 1] > expert:
                group[at] = group[at - 1]
                at -= 1
            group[at] = expert
            members += 1
    return members


@compiled
def log_group(memory: Memory, layer: int, sequence: int, members: int) -> None:
    """Note a group for those that will ask for the order of all."""
    if not memory.logs:
        return
    row = log_group_G(memory)[memory.groups]
    row[0], row[1], row[2] = layer, sequence, members
    memory.groups += 1
    for i in range(members):
        log_member_M(memory)[memory.group_members + i] = layer * memory.experts + group_E(memory)[i]
    memory.group_members += members


@compiled
def without_coming(memory: Memory, ahead: int) -> int:
    """Leave out of a proposal what has a slot or waits for one; return how many are left."""
    left = 0
    for i in range(ahead):
        own = key_at(memory, ahead_K(memory)[i])
        if own.slot < 0 and not own.in_flight and not own.asking:
            ahead_K(memory)[left] = ahead_K(memory)[i]
            left += 1
    return left


@compiled
def protect_ahead(memory: Memory, ahead: int) -> None:
    """Keep what one proposal names, there already or not, from being replaced by the rest of it."""
    memory.stamp += 1
    for i in range(ahead):
        key = ahead_K(memory)[i]
        cache = key_at(memory, key).cache
        if cache_at(memory, cache).stamp != memory.stamp:
            cache_at(memory, cache).stamp = memory.stamp
            announce_anew(memory, cache)
        if not key_at(memory, key).protected:
            protect(memory, cache, key)
