"""Measured configurations of swapping: what `simulate plan` fits its models to, and what its plans really give.

Quality comes from the live model under masked gating, latency and memory from an execution at batch 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from moe_replay.collect.execution.executor import TraceOnWeights
from moe_replay.collect.models.masked_gating import MaskedGates
from moe_replay.collect.studies.masked_quality import scored, summary, swapped
from moe_replay.collect.studies.quality_probes import Probe
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.halves import ALL
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.errors import InputError

NO_PERIOD = 0


@dataclass(frozen=True)
class Candidate:
    """Slots of every layer, and passes between new residents (0: residents stay)."""

    slots_L: tuple[int, ...]
    period: int


def draw_candidates(
    layers: int, experts: int, periods: Sequence[int], count: int, seed: int
) -> list[Candidate]:  # fmt: skip
    """Return configurations that cover small and large memories: a share of the experts, and layers spread about it.

    Every other one gives all layers nearly the same, as plans in the middle of the space do.
    """
    draws = np.random.default_rng(seed)
    found = []
    for number in range(count):
        share = draws.uniform(0.05, 0.95)
        spread = (0.2, 0.03)[number // len(periods) % 2]
        slots_L = np.clip(np.round(experts * np.clip(draws.normal(share, spread, layers), 0, 1)), 1, experts)
        found.append(Candidate(tuple(int(each) for each in slots_L), int(periods[number % len(periods)])))
    return found


@dataclass(frozen=True)
class ProfileStage:
    """Where candidates are measured. `passes_per_unit`: a unit of the probe is so many passes (bytes of a window).

    `link` are the fields of a MemoryConfig that say what a transfer takes, `other_bytes` the weights of no expert,
    `served` the part of the trace whose latency is measured: another one than `known` comes from.
    """

    probe: Probe
    renormalised: bool
    real: TraceOnWeights
    known: Known
    link: dict
    passes_per_unit: int
    other_bytes: int
    served: str = ALL

    def check(self, candidates: Sequence[Candidate]) -> None:
        """Raise InputError for a period that is no whole number of units, or slots of another model."""
        config, whole = self.probe.model.config, self.passes_per_unit
        for each in candidates:
            if each.period % whole or each.period > whole * self.probe.units:
                raise InputError(f"period is {each.period}, allowed 0 (residents stay) or multiples of {whole} passes")
            if len(each.slots_L) != config.layers or not all(1 <= slots <= config.experts for slots in each.slots_L):
                raise InputError(f"slots are {each.slots_L}, allowed 1..{config.experts} for {config.layers} layers")

    def rows(self, candidates: Sequence[Candidate], say: Callable[[], object] = lambda: None) -> list[dict]:
        """Return a row per candidate, `simulate.planning.measurements` says of which columns; `say` after each."""
        self.check(candidates)
        profiled = MaskedGates(self.probe.model, self.renormalised, redirect=True)
        self.probe.profile(profiled)
        original_S = scored(self.probe, None)
        rows = []
        for each in candidates:
            rows.append({**self._quality(each, profiled.importance_LE, original_S), **self._execution(each)})
            say()
        return rows

    def _quality(self, candidate: Candidate, importance_LE: object, original_S: np.ndarray) -> dict:
        gates = MaskedGates(self.probe.model, self.renormalised, redirect=True)
        gates.keep(importance_LE, candidate.slots_L)
        if candidate.period == NO_PERIOD:
            units_S = scored(self.probe, gates)
        else:
            units_S = swapped(self.probe, gates, candidate.slots_L, candidate.period // self.passes_per_unit)
        return {
            "slots": ".".join(map(str, candidate.slots_L)), "period": candidate.period,
            **summary(self.probe, units_S, original_S), "lost_mass": gates.lost_mass,
        }  # fmt: skip

    def _execution(self, candidate: Candidate) -> dict:
        memory = MemoryConfig(
            cache="importance", slots=candidate.slots_L, miss="redirect", filled=True,
            period=candidate.period or None, **self.link,
        )  # fmt: skip
        run = RunConfig(arrivals="closed", in_flight=1, memory=memory, served=self.served)
        records = self.real.execute(run, {}, self.known)
        took_ms = (records.passes["end_ns"] - records.passes["arrival_ns"]) / 1e6
        config = self.probe.model.config
        return {
            "latency_ms": float(took_ms.mean()), "latency_p95_ms": float(np.percentile(took_ms, 95)),
            "memory_bytes": records.header["device_bytes"] + self.other_bytes,
            "experts": config.experts, "k": config.k, "known": self.known.learned,
        }  # fmt: skip
