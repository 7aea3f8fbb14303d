"""Which runs of a layer stack are executed in a short time, the most telling first, and which trace drives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.traces.errors import InputError
from moe_replay.traces.selections import Trace

DECODE = 1  # phase of a generated token
NOTHING = "the trace has no decode phase (allowed: a language-route trace, --phase decode)"


def decode_steps(trace: Trace, share: float) -> Trace:
    """Return the first `share` of the decode steps of every sequence, at least one: passes of one token each.

    InputError for a trace without decode steps. What a run does not read is left out.
    """
    if trace.phase_T is None or not (trace.phase_T == DECODE).any():
        raise InputError(NOTHING)
    decoded = trace.only(trace.phase_T == DECODE)
    wanted_T = np.zeros(decoded.T, bool)
    for sequence in decoded.sequences_S:
        rows = np.flatnonzero(decoded.sequence_T == sequence)
        wanted_T[rows[np.argsort(decoded.step_T[rows], kind="stable")][: max(1, round(share * len(rows)))]] = True
    unread = {name: None for name in ("scores_TLK", "norm_TL") if name in decoded.present}
    return replace(decoded.only(wanted_T), **unread, header=replace(decoded.header, score_kind=None))


@dataclass(frozen=True)
class QueueRuns:
    """Closed loops of queue sizes and of lockstep, `in_flight` ascending, and how often each is repeated.

    A run serves `turns` times as many sequences as are in flight, so that a window of it holds enough of them. The
    largest number in flight comes first, the smallest queue size of it last and half as long: it runs one batch per
    selection.
    """

    queue_sizes: tuple[int, ...] = (1, 4, 16, 64)
    in_flight: tuple[int, ...] = (32, 256)
    replications: int = 2
    turns: float = 4

    @property
    def largest_batch(self) -> int:
        """The most passes that a step or a forced batch can hold."""
        return max(max(self.in_flight), max(self.queue_sizes))

    def first(self) -> list[RunConfig]:
        """Return what says most: one replication, without the one batch per selection of the most in flight."""
        return [config for config in self._once(0) if not self._is_long(config)]

    def rest(self) -> list[RunConfig]:
        """Return the others, replication by replication."""
        late = [replace(each, sequences=each.sequences // 2) for each in self._once(0) if self._is_long(each)]
        again = [config for seed in range(1, self.replications) for config in self._once(seed)]
        return [*late, *(config for config in again if not self._is_long(config))]

    def _is_long(self, config: RunConfig) -> bool:
        most = max(self.in_flight)
        return config.scheduler == "queues" and config.queue_size == 1 and config.in_flight == most > 32

    def _once(self, seed: int) -> list[RunConfig]:
        found = []
        for count in sorted(self.in_flight, reverse=True):
            loop = {"arrivals": "closed", "in_flight": count, "sequences": round(self.turns * count), "seed": seed}
            found.append(RunConfig(scheduler="lockstep", max_step=count, **loop))
            found += [RunConfig(queue_size=size, **loop) for size in sorted(self.queue_sizes, reverse=True)]
        return found


def memory_runs(slots: Sequence[int], link: dict, sequences: int) -> list[RunConfig]:
    """Return runs at batch 1 with expert slots: LRU that loads and that blocks, importance masked; resident first.

    `link` are the fields of a MemoryConfig that say what a transfer takes. The middle number of slots comes first.
    """
    handlings = (
        {"cache": "lru", "miss": "load"}, {"cache": "lru", "miss": "block"},
        {"cache": "importance", "miss": "redirect", "filled": True},
    )  # fmt: skip
    middle = sorted(slots)[len(slots) // 2]
    in_order = [middle, *(each for each in slots if each != middle)]
    memories = [MemoryConfig(slots=each, **fields, **link) for each in in_order for fields in handlings]
    loop = RunConfig(arrivals="closed", in_flight=1, sequences=sequences)
    return [replace(loop, memory=memory) for memory in (None, *memories)]
