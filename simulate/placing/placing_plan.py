"""What is placed and scored: methods by numbers of redundant experts by splits, into the rows of one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape, shape_for
from moe_replay.simulate.placing.fitted_parts import Parts
from moe_replay.simulate.placing.load_bound import load_bound
from moe_replay.simulate.placing.part_scores import OF_TRAFFIC, check_split, over_layers, scores, worst
from moe_replay.simulate.placing.planner_names import BLIND, planned, planner, replicates
from moe_replay.simulate.placing.recorded_batches import Batches
from moe_replay.simulate.placing.scores import useless_replicas
from moe_replay.simulate.placing.useless_repair import repaired
from moe_replay.simulate.policies.memory.knowledge_source import HINDSIGHT, NONE
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.even_split import EMPTY, replicas_LE

BOUND = "bound"  # named among the methods, and is none
OF_FIT = ("device_max_over_mean", "max_load", "avg_max_load", "fan_out")  # told of the fitted part too


@dataclass(frozen=True)
class Placed:
    """The table's rows, and the placement of every method and number of redundant experts."""

    rows: list[dict]
    expert_LP: dict[tuple[str, int], np.ndarray]
    shapes: dict[int, ClusterShape]


@dataclass(frozen=True)
class PlacingPlan:
    """Which methods place the experts of a model on which cluster, and which splits score them.

    `redundant` are numbers of slots beside one for each expert; planners without replicas are asked for none.
    `repair` packs anew what holds an expert twice on a device. InputError for what cannot be.
    """

    methods: tuple[str, ...]
    devices: int
    nodes: int = 1
    redundant: tuple[int, ...] = (0,)
    splits: tuple[str, ...] = ("even",)
    repair: bool = False
    expert_bytes: int | None = None

    def check(self, parts: Parts) -> None:
        """Refuse, before anything is planned, what no table can have."""
        for method in self.methods:
            if method != BOUND:
                planner(method)
        for split in self.splits:
            check_split(parts.scored, split)
            check_split(parts.fitted, split)
        for redundant in self.redundant:
            shape_for(parts.scored.profile.experts, self.devices, self.nodes, redundant)

    def cases(self) -> Iterator[tuple[str, int]]:
        """Yield every method with every number of redundant experts that it makes something of."""
        for method in dict.fromkeys(self.methods):
            for redundant in dict.fromkeys(self.redundant if method != BOUND and replicates(method) else (0,)):
                yield method, redundant


def placed(plan: PlacingPlan, parts: Parts, advance: Callable[[], None] = lambda: None) -> Placed:
    """Return the rows of a plan; `advance` is called after every method and number of redundant experts."""
    plan.check(parts)
    made = Placed([], {}, {})
    for method, redundant in plan.cases():
        shape = shape_for(parts.scored.profile.experts, plan.devices, plan.nodes, redundant)
        if method == BOUND:
            made.rows.append(bound_row(parts, shape, plan))
        else:
            expert_LP = planned(method, parts.fitted.profile, shape)
            useless = int(useless_replicas(expert_LP, shape.devices).sum())
            if plan.repair and useless:
                expert_LP = repaired(expert_LP, parts.fitted.profile.load_LE, shape)
            made.expert_LP[method, redundant], made.shapes[redundant] = expert_LP, shape
            made.rows.extend(rows_of(plan, parts, method, redundant, expert_LP, useless))
        advance()
    return made


def rows_of(
    plan: PlacingPlan, parts: Parts, method: str, redundant: int, expert_LP: np.ndarray, useless: int
) -> Iterator[dict]:
    """Yield a row for every split; where nothing is replicated splits are alike, and one row says it."""
    shape = shape_for(parts.scored.profile.experts, plan.devices, plan.nodes, redundant)
    replicas = int((replicas_LE(expert_LP, parts.scored.profile.experts) - 1).sum())
    for split in plan.splits if replicas else plan.splits[:1]:
        fitted = scores(parts.fitted, expert_LP, shape, split)
        yield {
            "planner": method, "known": NONE if method in BLIND else parts.known, "devices": plan.devices,
            "nodes": plan.nodes, "redundant": redundant, "replicas": replicas // len(expert_LP),
            "useless_replicas": useless, "repaired": plan.repair and useless > 0,
            "split": split if replicas else "", **scores(parts.scored, expert_LP, shape, split),
            **{f"fit_{name}": fitted[name] for name in OF_FIT},
            "placement_bytes": plan.expert_bytes and int((expert_LP != EMPTY).sum()) * plan.expert_bytes,
        }  # fmt: skip


def bound_row(parts: Parts, shape: ClusterShape, plan: PlacingPlan) -> dict:
    """Return the row of the bound: no placement of single copies is better on what is scored, whatever it knows."""
    scored, fitted = (ratio_of_bound(part, shape) for part in (parts.scored, parts.fitted))
    empty = {"max_load": None, "max_load_worst": None, "avg_max_load": None, **dict.fromkeys(OF_TRAFFIC)}
    return {
        "planner": BOUND, "known": HINDSIGHT, "devices": plan.devices, "nodes": plan.nodes, "redundant": 0,
        "replicas": 0, "useless_replicas": 0, "repaired": False, "split": "",
        "device_max_over_mean": over_layers(scored), "device_max_over_mean_worst": worst(scored), **empty,
        **{f"fit_{name}": None for name in OF_FIT} | {"fit_device_max_over_mean": over_layers(fitted)},
        "placement_bytes": None,
    }  # fmt: skip


def ratio_of_bound(batches: Batches, shape: ClusterShape) -> np.ndarray:
    """Return [L]: the bound over the mean load of a device."""
    load_LE = batches.profile.load_LE
    with np.errstate(invalid="ignore"):
        return load_bound(load_LE, shape) / (load_LE.sum(1) / shape.devices)


def domain_rows(plan: PlacingPlan, domains: dict[str, Batches]) -> list[dict]:
    """Return max/mean of every method, fitted on each domain and scored on each: what a wrong profile costs.

    Without redundant experts but those of the first number; replicas share evenly. InputError where a domain has no
    selections.
    """
    rows = []
    for method, redundant in plan.cases():
        if method == BOUND or redundant != next(each for name, each in plan.cases() if name == method):
            continue
        shape = shape_for(next(iter(domains.values())).profile.experts, plan.devices, plan.nodes, redundant)
        for fitted_on, fitted in domains.items():
            if not fitted.profile.load_LE.any():
                raise InputError(f"domain {fitted_on!r} has no selections")
            expert_LP = planned(method, fitted.profile, shape)
            if plan.repair:
                expert_LP = repaired(expert_LP, fitted.profile.load_LE, shape)
            for scored_on, scored in domains.items():
                ratio = scores(scored, expert_LP, shape, "even")["device_max_over_mean"]
                rows.append({
                    "planner": method, "redundant": redundant, "fitted_on": fitted_on, "scored_on": scored_on,
                    "device_max_over_mean": ratio,
                })  # fmt: skip
    return rows
