"""The previous token, compiled: its rule is that of `simulate.policies.prefetchers.previous_token`."""

from __future__ import annotations

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory, ahead_K, group_E, last_SL, last_SLM
from moe_replay.simulate.compiled.prefetchers.prefetcher import CompiledPrefetcher, next_layer
from moe_replay.simulate.policies.prefetchers.previous_token import PreviousToken


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
def observe_and_propose(memory: Memory, layer: int, sequence: int, members: int) -> int:
    """Note what this pass selected; propose what the next layer selected last time."""
    remember(memory, layer, sequence, members)
    return recall(memory, next_layer(memory, layer), sequence)


TWINS = {PreviousToken: CompiledPrefetcher(observe_and_propose, remembers="last of every layer")}
