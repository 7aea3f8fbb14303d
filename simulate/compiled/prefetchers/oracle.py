"""The oracle, compiled: its rule is that of `simulate.policies.prefetchers.oracle`."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, ahead_K, known_G, known_member_M, stamp_K
from moe_replay.simulate.compiled.prefetchers.prefetcher import CompiledPrefetcher
from moe_replay.simulate.policies.prefetchers.oracle import Oracle


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
def observe_and_propose(memory: Memory, layer: int, sequence: int, members: int) -> int:
    """Move on by one group; propose the members of the groups ahead."""
    memory.observed += 1
    return groups_ahead(memory)


TWINS = {Oracle: CompiledPrefetcher(observe_and_propose)}
