"""What masked gating and damaged experts cost in quality: every way to choose residents, on the real model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from moe_replay.collect.gates.gate_result import Selector
from moe_replay.collect.models.masked_gating import Altered, MaskedGates
from moe_replay.collect.studies.language_quality import error
from moe_replay.collect.studies.quality_probes import Probe
from moe_replay.simulate.policies.memory.knowledge_source import HELD_OUT, NONE
from moe_replay.simulate.policies.memory.swap_scheduler import LEARNED_METHODS
from moe_replay.traces.errors import InputError

STATIC = ("importance", "popularity", "magnitude")  # residents chosen once; popularity is pruning by use
HANDLINGS = ("redirect", "skip")


@dataclass(frozen=True)
class MaskedPlan:
    """`slots` per layer, `periods` in units of the probe, handlings, and how many random choices of residents."""

    slots: tuple[int, ...]
    periods: tuple[int, ...]
    handlings: tuple[str, ...] = HANDLINGS
    random_keeps: int = 3

    def check(self, probe: Probe) -> None:
        """Raise InputError for more slots than experts, or a period longer than what is measured."""
        experts = probe.model.config.experts
        for value in self.slots:
            if not 1 <= value <= experts:
                raise InputError(f"slots is {value}, allowed 1..{experts}, the experts of a layer")
        for value in self.periods:
            if not 1 <= value <= probe.units:
                raise InputError(f"period is {value}, allowed 1..{probe.units}, the units measured")

    @property
    def ways(self) -> int:
        """How many ways are measured, the original among them."""
        return 1 + len(self.slots) * len(self.handlings) * (len(STATIC) + self.random_keeps + len(self.periods))


def masked_rows(
    probe: Probe, renormalised: bool, plan: MaskedPlan, say: Callable[[], object] = lambda: None
) -> list[dict]:
    """Return a row per way to choose residents, number of slots and handling; `loss` compares unit by unit.

    `importance`, `popularity` and `magnitude` are chosen once, from training data or from weights; `random` by a seed;
    `swapmoe` begins like `importance` and chooses anew after every period, by the importance in that period, at once:
    how long its transfers take is the business of the execution. `say` is called after each way.
    """
    plan.check(probe)
    original_S = scored(probe, None)
    say()
    rows = [way_row("original", summary(probe, original_S, original_S), lost_mass=0.0)]
    profiled = MaskedGates(probe.model, renormalised, redirect=True)
    probe.profile(profiled)
    scores = {
        "importance": profiled.importance_LE, "popularity": profiled.chosen_LE, "magnitude": profiled.norm_LE,
    }  # fmt: skip
    for handling in plan.handlings:
        for slots in plan.slots:
            ways = [(name, score_LE, None, None) for name, score_LE in scores.items()]
            ways += [("random", random_scores(probe, seed), None, seed) for seed in range(plan.random_keeps)]
            ways += [("swapmoe", scores["importance"], period, None) for period in plan.periods]
            for method, score_LE, period, seed in ways:
                gates = MaskedGates(probe.model, renormalised, handling == "redirect")
                gates.keep(score_LE, slots)
                units_S = scored(probe, gates) if period is None else swapped(probe, gates, slots, period)
                measured = summary(probe, units_S, original_S)
                rows.append(way_row(method, measured, handling, slots, period, seed, gates.lost_mass))
                say()
    return rows


def way_row(
    method: str, measured: dict, miss: str | None = None, slots: int | None = None, period: int | None = None,
    seed: int | None = None, lost_mass: float | None = None,
) -> dict:  # fmt: skip
    """Return a row of the table: what was done, how good the model was."""
    known = HELD_OUT if method in LEARNED_METHODS else NONE
    done = {"method": method, "miss": miss, "slots": slots, "period": period, "seed": seed, "lost_mass": lost_mass}
    return {**done, **measured, "known": known}


def scored(probe: Probe, select: Selector | None) -> np.ndarray:
    """Return the quality of every unit under one selector."""
    firsts = range(0, probe.units, probe.batch)
    return np.concatenate([probe.score(first, min(first + probe.batch, probe.units), select) for first in firsts])


def swapped(probe: Probe, gates: MaskedGates, slots: int, period: int) -> np.ndarray:
    """Return the quality of every unit while residents are chosen anew after every period."""
    scores, first, changed = [], 0, 0
    while first < probe.units:
        last = min(first + probe.batch, changed + period, probe.units)
        scores.append(probe.score(first, last, gates))
        first = last
        if first - changed == period:
            gates.keep(gates.importance_LE, slots)
            gates.forget()
            changed = first
    return np.concatenate(scores)


def random_scores(probe: Probe, seed: int) -> torch.Tensor:
    """Return scores [L, E] in random order."""
    config = probe.model.config
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(config.layers, config.experts, generator=generator).to(next(probe.model.parameters()).device)


def summary(probe: Probe, units_S: np.ndarray, original_S: np.ndarray) -> dict:
    """Return the mean quality and how much worse than the original it is, with standard errors over units."""
    loss_S = probe.better * (original_S - units_S)
    return {
        "measure": probe.measure, "units": len(units_S), "quality": units_S.mean(), "quality_error": error(units_S),
        "loss": loss_S.mean(), "loss_error": error(loss_S),
    }  # fmt: skip


def altered_rows(
    probe: Probe, renormalised: bool, share: float, seeds: int, say: Callable[[], object] = lambda: None
) -> list[dict]:
    """Return a row per treatment (skip, exchange), place (first layer, all layers) and seed, and one untreated.

    A seed draws which `share` of the experts of a layer is treated. InputError unless that is at least two experts.
    """
    config = probe.model.config
    count = round(share * config.experts)
    if not 2 <= count <= config.experts:
        raise InputError(f"share is {share}: {count} of {config.experts} experts, allowed at least 2 of them")
    original_S = scored(probe, None)
    say()
    untreated = {"treatment": "none", "place": None, "share": None, "seed": None}
    rows = [{**untreated, **summary(probe, original_S, original_S)}]
    for seed in range(seeds):
        affected_LE = torch.zeros(config.layers, config.experts, dtype=torch.bool)
        order_LE = random_scores(probe, seed).cpu().argsort(1)
        affected_LE.scatter_(1, order_LE[:, :count], True)
        for place, layers in (("first layer", 1), ("all layers", config.layers)):
            treated_LE = affected_LE & (torch.arange(config.layers) < layers)[:, None]
            for treatment in ("skip", "exchange"):
                device = next(probe.model.parameters()).device
                gates = Altered(probe.model, renormalised, treated_LE.to(device), treatment == "exchange")
                units_S = scored(probe, gates)
                done = {"treatment": treatment, "place": place, "share": share, "seed": seed}
                rows.append({**done, **summary(probe, units_S, original_S)})
                say()
    return rows
