"""Systems: a planner with so many redundant experts, which plans once or, adaptive, anew while steps are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from moe_replay.simulate.end_to_end.judged_steps import JudgedSteps
from moe_replay.simulate.placing.cluster_shape import ClusterShape, shape_for
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import BLIND, PLANNERS, planned, planner, replicates
from moe_replay.simulate.placing.scores import useless_replicas
from moe_replay.simulate.placing.useless_repair import repaired
from moe_replay.simulate.policies.memory.knowledge_source import HELD_OUT, NONE
from moe_replay.simulate.rebalancing.migration import migration
from moe_replay.simulate.rebalancing.replay import RebalanceRule, next_placement, plan_for

AS_IT_GOES = "-adaptive"  # behind a planner's name: it plans anew while the steps are served
CHOICES = f"{PLANNERS.choices}; NAME{AS_IT_GOES} places anew as it goes"


@dataclass(frozen=True)
class System:
    """A way to place experts, with so many redundant ones."""

    name: str
    redundant: int = 0

    @property
    def planner(self) -> str:
        """What plans its placements."""
        return self.name.removesuffix(AS_IT_GOES)

    @property
    def is_adaptive(self) -> bool:
        """Whether it plans anew while the steps are served."""
        return self.name.endswith(AS_IT_GOES)

    @property
    def known(self) -> str:
        """What it knows of the steps that it is judged on: nothing at all, or what came before them."""
        return NONE if self.planner in BLIND else HELD_OUT


@dataclass(frozen=True, eq=False)
class Stretch:
    """Judged steps `start` .. `stop` - 1, served under one placement; `copies` of experts were made before them."""

    start: int
    stop: int
    expert_LP: np.ndarray
    copies: int = 0


def systems_of(names: Sequence[str], redundant: Sequence[int]) -> list[System]:
    """Return every system, those that make something of redundant experts with each number; InputError for others."""
    found = []
    for name in dict.fromkeys(names):
        planner(System(name).planner)  # refuses an unknown one
        many = redundant if replicates(System(name).planner) else (0,)
        found += [System(name, each) for each in dict.fromkeys(many)]
    return found


def stretches_of(system: System, steps: JudgedSteps, devices: int, nodes: int, rule: RebalanceRule) -> list[Stretch]:
    """Return the placements under which a system serves the judged steps, each planned from what came before it.

    `rule` says when an adaptive one plans anew, and from how many of the last steps. An expert twice on a device is
    packed anew. InputError where experts do not fit on the devices.
    """
    shape, last = shape_for(steps.experts, devices, nodes, system.redundant), len(steps.points.load_SLE)
    known, rule = steps.points.known(0, steps.first), replace(rule, method=system.planner)
    in_order_LP = None if system.redundant else planned("contiguous", known, shape)
    begun_LP = plan_for(system.planner, known, shape, in_order_LP)
    current_LP, since, copies, found = without_useless(begun_LP, known, shape), steps.first, 0, []
    for step in range(steps.first + 1, last if system.is_adaptive and rule.interval else 0):
        if (step - steps.first) % rule.interval == 0:
            known = steps.points.known(step - rule.window, step)
            next_LP = without_useless(next_placement(known, shape, rule, current_LP)[0], known, shape)
            moved = int(migration(current_LP, next_LP, devices, steps.experts).copies_L.sum())
            if moved:
                found.append(Stretch(since, step, current_LP, copies))
                current_LP, since, copies = next_LP, step, moved
    return [*found, Stretch(since, last, current_LP, copies)]


def without_useless(expert_LP: np.ndarray, known: LoadProfile, shape: ClusterShape) -> np.ndarray:
    """Return a placement in which no device holds an expert twice."""
    twice = useless_replicas(expert_LP, shape.devices).any()
    return repaired(expert_LP, known.load_LE, shape) if twice else expert_LP
