"""What the compiled form of a prefetcher consists of, and the prefetcher that proposes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from moe_replay.simulate.compiled.jit import compiled
from moe_replay.simulate.compiled.memory.memory_layout import Memory
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher


@compiled
def next_layer(memory: Memory, layer: int) -> int:
    """Return the layer after a group's; after the last comes the first, of the next pass."""
    return (layer + 1) % memory.layers


@compiled
def nothing(memory: Memory, layer: int, sequence: int, members: int) -> int:
    """Propose nothing."""
    return 0


@dataclass(frozen=True)
class CompiledPrefetcher:
    """What one prefetcher does, and which room it needs.

    `observe_and_propose(memory, layer, sequence, members)` sees a group, whose members are in `group_E`, lists what it
    proposes in `ahead_K`, each once, and returns how many they are. `remembers` says which of a sequence's last groups
    it keeps in `last_SLM`, `counts_pairs` whether it counts in `pairs_KE` what followed what.
    """

    observe_and_propose: Callable[[Memory, int, int, int], int] = nothing
    remembers: Literal["none", "last", "last of every layer"] = "none"
    counts_pairs: bool = False


TWINS = {Prefetcher: CompiledPrefetcher()}
