"""Popularity, compiled: its rule is that of `simulate.policies.prefetchers.popularity`."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, ahead_K, ranked_LE
from moe_replay.simulate.compiled.prefetchers.prefetcher import CompiledPrefetcher, next_layer
from moe_replay.simulate.policies.prefetchers.popularity import Popularity


@compiled
def observe_and_propose(memory: Memory, layer: int, sequence: int, members: int) -> int:
    """Propose the most popular experts of the next layer, as many as the group has members."""
    for i in range(members):
        ahead_K(memory)[i] = ranked_LE(memory)[next_layer(memory, layer), i]
    return members


TWINS = {Popularity: CompiledPrefetcher(observe_and_propose)}
