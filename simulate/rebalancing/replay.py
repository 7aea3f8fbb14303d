"""Placements over time: from point to point each layer keeps its placement, or adopts one planned from the past.

Letters: S points (iterations of training, or batches), L layers, E experts, P slots.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import planned
from moe_replay.simulate.placing.planners.smartmoe import devices_of, replanned
from moe_replay.simulate.placing.slot_filling import filled_slots
from moe_replay.simulate.rebalancing.device_loads import device_loads, over_mean
from moe_replay.simulate.rebalancing.load_points import LoadPoints
from moe_replay.simulate.rebalancing.migration import migration, renamed
from moe_replay.traces.errors import InputError, unknown_name

STARTS = ("contiguous", "first-point")
STAYING = "smartmoe"  # the planner whose plan depends on the placement in force


@dataclass(frozen=True)
class RebalanceRule:
    """When experts are placed anew, from what, and when what was planned is adopted.

    `method` is a planner, or `smartmoe`: heaviest first, an expert staying where it is when that is among the least
    loaded devices. `start` is the first placement: contiguous, or planned from the first point, which is then not
    scored. From there on experts are placed anew every `interval` points (0: never) from the loads of the `window`
    points before. A layer adopts the plan if its heaviest device had more than `threshold` times the heaviest of the
    plan over that window; 0 adopts any plan. A layer whose max/mean was at most `balanced` is not planned. `relabel`
    renames the plan's devices so that the fewest copies are made. InputError for values that cannot be.
    """

    method: str = "lpt"
    interval: int = 1
    window: int = 1
    threshold: float = 0.0
    balanced: float = 0.0
    relabel: bool = False
    start: str = "contiguous"

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS)
        for name, low in (("interval", 0), ("window", 1), ("threshold", 0), ("balanced", 0)):
            if not getattr(self, name) >= low:
                raise InputError(f"{name} is {getattr(self, name)}, allowed >= {low}")

    @property
    def first(self) -> int:
        """The first point that is scored."""
        return int(self.start == "first-point")

    def due(self, point: int) -> bool:
        """Say whether experts are placed anew before a point."""
        since = point - self.first
        return self.interval > 0 and since > 0 and since % self.interval == 0


@dataclass(frozen=True, eq=False)
class Replayed:
    """What a rule made of the points that it is scored on, [S, L] each.

    `over_mean_SL`: load of the heaviest device over the mean, NaN without selections; `planned_SL`, `adopted_SL`
    (bool); `copies_SL` before the point, and of those `most_SL` through the fullest port; `expert_SLP` the placements.
    """

    over_mean_SL: np.ndarray
    planned_SL: np.ndarray
    adopted_SL: np.ndarray
    copies_SL: np.ndarray
    most_SL: np.ndarray
    expert_SLP: np.ndarray


def plan_for(method: str, known: LoadProfile, shape: ClusterShape, current_LP: np.ndarray | None) -> np.ndarray:
    """Return the placement that a method plans from what is known, where `current_LP` is in force (if any)."""
    if method == STAYING:
        former_LE = devices_of(current_LP, known.experts, shape)
        return filled_slots(replanned(known.load_LE, former_LE, shape, threshold=0)[0], shape)
    return planned(method, known, shape)


def first_placement(points: LoadPoints, shape: ClusterShape, rule: RebalanceRule) -> np.ndarray:
    """Return the placement of the first scored point: contiguous, or as planned from the first point."""
    contiguous_LP = planned("contiguous", points.known(0, 1), shape)
    return contiguous_LP if rule.first == 0 else plan_for(rule.method, points.known(0, 1), shape, contiguous_LP)


def next_placement(
    known: LoadProfile, shape: ClusterShape, rule: RebalanceRule, current_LP: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (placement from here on, which layers were planned, which of them adopted their plan)."""
    old_LD = device_loads(known.load_LE, current_LP, shape.devices)
    planned_L = over_mean(old_LD) > rule.balanced  # nothing selected in the window: nothing to plan from
    if not planned_L.any():
        return current_LP, planned_L, planned_L
    plan_LP = plan_for(rule.method, known, shape, current_LP)
    if rule.relabel:
        plan_LP = renamed(current_LP, plan_LP, shape, known.experts)
    new_LD = device_loads(known.load_LE, plan_LP, shape.devices)
    adopted_L = planned_L & (old_LD.max(1) > rule.threshold * new_LD.max(1))
    return np.where(adopted_L[:, None], plan_LP, current_LP), planned_L, adopted_L


def replay(
    points: LoadPoints, shape: ClusterShape, rule: RebalanceRule, advance: Callable[[], object] = lambda: None
) -> Replayed:
    """Return what a rule makes of the points; InputError where there is none to score."""
    if len(points.load_SLE) <= rule.first:
        raise InputError(f"{points.name}: {len(points.load_SLE)} points, allowed: at least {rule.first + 1}")
    layers, experts = points.load_SLE.shape[1:]
    current_LP = first_placement(points, shape, rule)
    rows, nothing_L = [], np.zeros(layers)
    for point in range(rule.first, len(points.load_SLE)):
        planned_L = adopted_L = np.zeros(layers, bool)
        copies_L = most_L = nothing_L
        if rule.due(point):
            known = points.known(point - rule.window, point)
            next_LP, planned_L, adopted_L = next_placement(known, shape, rule, current_LP)
            moved = migration(current_LP, next_LP, shape.devices, experts)
            copies_L, most_L, current_LP = moved.copies_L, moved.most_L, next_LP
        load_LD = device_loads(points.load_SLE[point], current_LP, shape.devices)
        rows.append((over_mean(load_LD), planned_L, adopted_L, copies_L, most_L, current_LP))
        advance()
    return Replayed(*(np.stack(each) for each in zip(*rows, strict=True)))
