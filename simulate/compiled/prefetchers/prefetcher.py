"""Prefetchers, compiled: what is loaded ahead of its use, as in `simulate.policies.prefetchers`."""

from __future__ import annotations

from moe_replay.simulate.compiled.caches.cache import announce_anew, protect
from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.expert_memory import load_ahead
from moe_replay.simulate.compiled.memory.memory_accessors import (
    ahead_K,
    before_S,
    cache_at,
    entered_EN,
    follow_E,
    group_E,
    key_at,
    known_G,
    known_member_M,
    last_SL,
    last_SLM,
    log_group_G,
    log_member_M,
    pairs_KE,
    ranked_LE,
    seen_K,
    stamp_K,
)
from moe_replay.simulate.compiled.memory.memory_layout import (
    CO_ACTIVATION,
    ORACLE,
    POPULARITY,
    PREVIOUS_TOKEN,
    STEP,
    Memory,
)
from moe_replay.simulate.compiled.run_accessors import pass_at, step_P
from moe_replay.simulate.compiled.run_layout import World
from moe_replay.simulate.compiled.scheduler import expert_of, has_members


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
    ahead = propose(memory, layer, sequence, members)
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
def propose(memory: Memory, layer: int, sequence: int, members: int) -> int:
    """Let the prefetcher observe a group; list what it proposes in `ahead_K` and return how many they are."""
    following = (layer + 1) % memory.layers
    if memory.prefetcher == PREVIOUS_TOKEN:
        remember(memory, layer, sequence, members)
        return recall(memory, following, sequence)
    if memory.prefetcher == CO_ACTIVATION:
        count_pairs(memory, layer, sequence, members)
        return most_often_following(memory, layer, members)
    if memory.prefetcher == POPULARITY:
        for i in range(members):
            ahead_K(memory)[i] = ranked_LE(memory)[following, i]
        return members
    if memory.prefetcher == ORACLE:
        memory.observed += 1
        return groups_ahead(memory)
    return 0


@compiled
def remember(memory: Memory, layer: int, sequence: int, members: int) -> None:
    """Keep the last group of a sequence in a layer."""
    last_SL(memory)[sequence, layer] = members
    for i in range(members):
        last_SLM(memory)[sequence, layer, i] = group_E(memory)[i]


@compiled
def recall(memory: Memory, layer: int, sequence: int) -> int:
    """Propose the last group of a sequence in a layer."""
    members = max(last_SL(memory)[sequence, layer], 0)
    for i in range(members):
        ahead_K(memory)[i] = layer * memory.experts + last_SLM(memory)[sequence, layer, i]
    return members


@compiled
def count_pairs(memory: Memory, layer: int, sequence: int, members: int) -> None:
    """Count the pairs of this group and the one before it in the pass, of which place 0 of `last_SLM` keeps track."""
    before = before_S(memory)[sequence]
    if before >= 0 and before + 1 == layer:
        for i in range(last_SL(memory)[sequence, 0]):
            key = before * memory.experts + last_SLM(memory)[sequence, 0, i]
            seen_K(memory)[key] += 1
            for j in range(members):
                pairs_KE(memory)[key, group_E(memory)[j]] += 1
    before_S(memory)[sequence] = layer
    remember(memory, 0, sequence, members)


@compiled
def most_often_following(memory: Memory, layer: int, members: int) -> int:
    """Propose the experts of the next layer with the highest score, ties: the lowest, as many as are present."""
    score_E = follow_E(memory)
    if layer + 1 >= memory.layers:
        return 0
    for follower in range(memory.experts):
        score_E[follower] = 0.0
    for i in range(members):
        key = layer * memory.experts + group_E(memory)[i]
        if seen_K(memory)[key] > 0:
            for follower in range(memory.experts):
                if pairs_KE(memory)[key, follower] > 0:
                    score_E[follower] += pairs_KE(memory)[key, follower] / seen_K(memory)[key]
    ahead = 0
    while ahead < members:
        best = 0
        for follower in range(1, memory.experts):
            if score_E[follower] > score_E[best]:
                best = follower
        if score_E[best] <= 0.0:
            break
        ahead_K(memory)[ahead] = (layer + 1) * memory.experts + best
        score_E[best] = 0.0
        ahead += 1
    return ahead


@compiled
def groups_ahead(memory: Memory) -> int:
    """Propose the members of the next groups, each once, in the order in which they will run."""
    ahead = 0
    memory.stamp += 1
    end = min(memory.observed + memory.look_ahead, len(known_G(memory)) - 1)
    for group in range(min(memory.observed, end), end):
        for at in range(known_G(memory)[group], known_G(memory)[group + 1]):
            key = known_member_M(memory)[at]
            if stamp_K(memory)[key] != memory.stamp:
                stamp_K(memory)[key] = memory.stamp
                ahead_K(memory)[ahead] = key
                ahead += 1
    return ahead


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
