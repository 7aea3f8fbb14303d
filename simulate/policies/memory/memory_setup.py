"""What a run's expert memory is told beforehand, and how it is built from that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.simulate.policies.memory.expert_memory import ExpertMemory
from moe_replay.simulate.policies.memory.knowledge import AccessOrder, Knowledge
from moe_replay.simulate.policies.memory.masking import MaskedMemory

if TYPE_CHECKING:
    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.simulate.config.workload import Workload


@dataclass(frozen=True)
class Known:
    """`popularity` and `importance` hold a number per key (layer * E + expert), `expert_norm` the norm of its weights.

    `order` are the accesses and groups to come, as an earlier run of the same order recorded them: an optimum or an
    oracle is exact where a run's order does not depend on what its caches do. `learned` is the mark of the rest, as in
    `Knowledge`.
    """

    popularity: Sequence[float] | None = None
    importance: Sequence[float] | None = None
    expert_norm: Sequence[float] | None = None
    order: AccessOrder | None = None
    learned: str = "hindsight"


def new_memory(workload: Workload, device_LB: np.ndarray, config: RunConfig, known: Known | None) -> ExpertMemory:
    """Return the expert memory of a run that begins; InputError where its policies need what is not known."""
    known, memory = known or Known(), config.memory
    knowledge = Knowledge(
        workload.layers, workload.experts, known.popularity, known.importance, rng=config.generator("memory")
    )
    if memory.is_masked:
        return MaskedMemory(memory, device_LB, knowledge, workload, known.expert_norm)
    return ExpertMemory(memory, device_LB, knowledge, config.runs_in_order, known.order)
