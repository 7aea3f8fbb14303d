"""Co-activation, compiled: its rule is that of `simulate.policies.prefetchers.co_activation`."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import (
    Memory,
    ahead_K,
    before_S,
    follow_E,
    group_E,
    last_SL,
    last_SLM,
    pairs_KE,
    seen_K,
)
from moe_replay.simulate.compiled.prefetchers.prefetcher import CompiledPrefetcher
from moe_replay.simulate.compiled.prefetchers.previous_token import remember
from moe_replay.simulate.policies.prefetchers.co_activation import CoActivation


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
def observe_and_propose(memory: Memory, layer: int, sequence: int, members: int) -> int:
    """Count the pairs that this group makes; propose the experts of the next layer with the highest score."""
    count_pairs(memory, layer, sequence, members)
    return most_often_following(memory, layer, members)


TWINS = {CoActivation: CompiledPrefetcher(observe_and_propose, remembers="last", counts_pairs=True)}
