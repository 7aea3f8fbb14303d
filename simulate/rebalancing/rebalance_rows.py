"""Rows about placements over time: every rule beside placements that never change, and beside those of the future.

`placement` says which a row is of. `rebalanced` follows its rule and knows the past. `contiguous` and `first` (planned
from the first point) never change. `all` (planned from all points), `same` (planned at every point from that point) and
`bound` (what no placement of whole experts stays below) know what comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape, shape_for
from moe_replay.simulate.rebalancing.clairvoyant import foreknown
from moe_replay.simulate.rebalancing.device_loads import bound, device_loads, over_mean
from moe_replay.simulate.rebalancing.load_points import LoadPoints
from moe_replay.simulate.rebalancing.point_clock import Clock, PointClock
from moe_replay.simulate.rebalancing.replay import (
    STAYING,
    RebalanceRule,
    Replayed,
    first_placement,
    plan_for,
    replay,
)

SETTINGS = ("plan_interval", "plan_window", "adopt_threshold", "plan_balanced", "relabelled")
KEPT = 4  # placements without a rule that have a time: contiguous, first, all, same
POOLED = {STAYING: "lpt"}  # whose plans depend on the placement before them: planned by this for the pool


@dataclass(frozen=True)
class Moving:
    """What a copy costs: bytes of an expert, bytes per second of a device's port, a step's ns, steps to hide behind.

    None where it is not known; then what would follow from it is left out.
    """

    expert_bytes: int | None = None
    bandwidth: float | None = None
    step_ns: int | None = None
    hidden_steps: int = 0


@dataclass(frozen=True)
class Asked:
    """What is tried: every rule with every number of redundant experts, over `devices` in `nodes`, `clock` or none."""

    rules: tuple[RebalanceRule, ...]
    devices: int
    nodes: int = 1
    redundant: tuple[int, ...] = (0,)
    move_costs: tuple[float, ...] = ()
    clock: Clock | None = None

    def work(self, all_points: list[LoadPoints]) -> int:
        """Return how many times `advance` is called."""
        timed = 0 if self.clock is None else KEPT * len(self.statics) + len(self.clock.moves) * len(self.rules)
        each = [
            len(points.load_SLE) * (len(self.rules) + len(self.statics) + timed) + self.foreseen(points)
            for points in all_points
        ]  # fmt: skip
        return len(self.redundant) * sum(each)

    def foreseen(self, points: LoadPoints) -> int:
        """Return how many layers the clairvoyant works through."""
        return points.load_SLE.shape[1] * len(self.statics) if self.move_costs else 0

    @property
    def statics(self) -> list[RebalanceRule]:
        """A rule without rebalancing for each method and start, in their order."""
        return list(dict.fromkeys(RebalanceRule(rule.method, interval=0, start=rule.start) for rule in self.rules))


@dataclass
class Found:
    """The rows of all tables: of placements, of what the clairvoyant saves, and of every point."""

    rows: list[dict]
    regret: list[dict]
    points: list[dict]


def rebalance_rows(
    all_points: list[LoadPoints], asked: Asked, moving: Moving, timed: bool = False,
    advance: Callable[[], object] = lambda: None,
) -> Found:  # fmt: skip
    """Return all rows; those of every point only where `timed`. InputError for what no planner can place."""
    found = Found([], [], [])
    for points in all_points:
        sized = replace(moving, expert_bytes=moving.expert_bytes or points.expert_bytes)
        for redundant in asked.redundant:
            shape = shape_for(points.load_SLE.shape[2], asked.devices, asked.nodes, redundant)
            place = {"phase": points.phase, "devices": asked.devices, "nodes": asked.nodes, "redundant": redundant}
            clock = asked.clock and PointClock(points, shape, asked.clock, sized.expert_bytes, advance)
            for static in asked.statics:
                rows = [place | row for row in static_rows(points, shape, static, redundant, advance, clock)]
                had = {(row["placement"], row["planner"]) for row in found.rows if place.items() <= row.items()}
                found.rows += [row for row in rows if (row["placement"], row["planner"]) not in had]
                rules = [rule for rule in asked.rules if (rule.method, rule.start) == (static.method, static.start)]
                replays = [replay(points, shape, rule, advance) for rule in rules]
                for rule, made in zip(rules, replays, strict=True):
                    row = place | rebalanced_row(made, rule, sized)
                    found.rows += [row] if clock is None else timed_rows(row, made, rule, clock)
                    if timed:
                        found.points += [place | row for row in point_rows(points, made, rule)]
                if asked.move_costs:
                    rows = regret_rows(points, shape, static, rules, replays, asked.move_costs, advance)
                    found.regret += [place | row for row in rows]
    return found


def timed_rows(row: dict, made: Replayed, rule: RebalanceRule, clock: PointClock) -> Iterator[dict]:
    """Yield a rule's row with its times, for every way of moving."""
    for moves in clock.clock.moves:
        yield row | {"moves": moves} | clock.rebalanced(made.expert_SLP, rule.first, moves).columns


def static_rows(
    points: LoadPoints, shape: ClusterShape, static: RebalanceRule, redundant: int, advance: Callable[[], object],
    clock: PointClock | None = None,
) -> Iterator[dict]:  # fmt: skip
    """Yield the rows of placements that follow no rule: contiguous, of the first point, of all, of the same, bound."""
    scored_SLE, devices = points.load_SLE[static.first :], shape.devices
    start_LP = plan_for("contiguous", points.known(0, 1), shape, None)

    def planned_from(start: int, stop: int) -> np.ndarray:
        return plan_for(static.method, points.known(start, stop), shape, start_LP)

    kept = {
        "contiguous": ("none", start_LP), "first": ("none", planned_from(0, 1)),
        "all": ("hindsight", planned_from(0, len(points.load_SLE))),
    }  # fmt: skip
    for name, (known, expert_LP) in kept.items():
        over_mean_SL = np.stack([over_mean(device_loads(load_LE, expert_LP, devices)) for load_LE in scored_SLE])
        of_rule = replace(static, method="contiguous") if name == "contiguous" else static
        timed = {} if clock is None else clock.kept([expert_LP] * len(scored_SLE), static.first)
        yield named(of_rule, name, known) | spread(over_mean_SL) | timed
    same, plans = [], []
    for point in range(len(points.load_SLE)):
        if point >= static.first:
            plans.append(planned_from(point, point + 1))
            same.append(over_mean(device_loads(points.load_SLE[point], plans[-1], devices)))
        advance()
    timed = {} if clock is None else clock.kept(plans, static.first)
    yield named(static, "same", "hindsight") | spread(np.stack(same)) | timed
    any_rule = replace(static, method="any")
    yield named(any_rule, "bound", "hindsight") | spread(bound(scored_SLE, shape, redundant))


def named(rule: RebalanceRule, placement: str, known: str) -> dict:
    """Return what a row is of; what never changes has none of a rule's numbers."""
    numbers = (rule.interval, rule.window, rule.threshold, rule.balanced, int(rule.relabel))
    of_rule = numbers if placement == "rebalanced" else (0,) * len(SETTINGS)
    what = {"placement": placement, "planner": rule.method, **dict(zip(SETTINGS, of_rule, strict=True))}
    return what | {"first_placement": rule.start, "known": known}


def spread(over_mean_SL: np.ndarray) -> dict:
    """Return the mean over layers of each layer's mean max/mean over points, and the worst layer's."""
    mean_L = np.nanmean(over_mean_SL, axis=0)
    return {
        "points": len(over_mean_SL), "device_max_over_mean": float(mean_L.mean()),
        "device_max_over_mean_worst": float(mean_L.max()),
    }  # fmt: skip


def rebalanced_row(made: Replayed, rule: RebalanceRule, moving: Moving) -> dict:
    """Return the row of a rule: balance, how often it planned and adopted, what it moved, and how long that takes."""
    adoptions, copies = int(made.adopted_SL.sum()), int(made.copies_SL.sum())
    row = named(rule, "rebalanced", "none") | spread(made.over_mean_SL)
    row |= {
        "plans_per_layer": float(made.planned_SL.sum(0).mean()),
        "adoptions_per_layer": float(made.adopted_SL.sum(0).mean()),
        "copies_per_layer": float(made.copies_SL.sum(0).mean()),
        "copies_per_adoption": copies / adoptions if adoptions else 0.0,
    }  # fmt: skip
    moves_S = made.copies_SL.any(1)
    rebalances = int(moves_S.sum())
    row["rebalances"] = rebalances
    if moving.expert_bytes is None:
        return row
    row["bytes_per_rebalance"] = copies * moving.expert_bytes / rebalances if rebalances else 0.0
    if moving.bandwidth is None:
        return row
    transfer_S = made.most_SL.sum(1)[moves_S] * moving.expert_bytes / moving.bandwidth
    row["stall_ms"] = 1e3 * float(transfer_S.mean()) if rebalances else 0.0
    if moving.step_ns is not None:
        left_S = np.maximum(0, transfer_S - moving.hidden_steps * moving.step_ns * 1e-9)
        row |= {"hidden_steps": moving.hidden_steps, "stall_hidden_ms": 1e3 * left_S.mean() if rebalances else 0.0}
    return row


def point_rows(points: LoadPoints, made: Replayed, rule: RebalanceRule) -> Iterator[dict]:
    """Yield a row for every scored point and layer: balance, whether a plan was adopted before it, copies."""
    what = named(rule, "rebalanced", "none")
    for at, number in enumerate(points.number_S[rule.first :].tolist()):
        for layer, layer_id in enumerate(points.layer_ids):
            yield what | {
                "time_point": at + rule.first, "iteration": number, "layer": layer_id,
                "device_max_over_mean": float(made.over_mean_SL[at, layer]), "adopted": int(made.adopted_SL[at, layer]),
                "slot_copies": int(made.copies_SL[at, layer]),
            }  # fmt: skip


def regret_rows(
    points: LoadPoints, shape: ClusterShape, static: RebalanceRule, rules: list[RebalanceRule],
    replays: list[Replayed], move_costs: tuple[float, ...], advance: Callable[[], object],
) -> Iterator[dict]:  # fmt: skip
    """Yield a row per cost of a move and rule: what it paid a point, and how much more than the clairvoyant.

    The clairvoyant's pool is the first placement and the plan of every point from itself.
    """
    pool_rule = replace(static, method=POOLED.get(static.method, static.method))
    first_LP = first_placement(points, shape, static)
    of_points = [
        plan_for(pool_rule.method, points.known(point, point + 1), shape, first_LP)
        for point in range(len(points.load_SLE))
    ]  # fmt: skip
    scored_SLE = points.load_SLE[static.first :]
    paths = foreknown(scored_SLE, np.stack([first_LP, *of_points]), shape, list(move_costs), advance)
    for move_cost, path_L in zip(move_costs, paths, strict=True):
        least = float(np.mean([path.cost for path in path_L])) / len(scored_SLE)
        foreseen = {
            "clairvoyant_cost_per_point": least,
            "clairvoyant_device_max_over_mean": float(np.mean([path.over_mean_S.mean() for path in path_L])),
            "clairvoyant_copies_per_layer": float(np.mean([path.copies for path in path_L])),
            "clairvoyant_first_copies": float(np.mean([path.first_copies for path in path_L])),
        }  # fmt: skip
        for rule, made in zip(rules, replays, strict=True):
            paid = np.nan_to_num(made.over_mean_SL).mean() + move_cost * made.copies_SL.mean()
            what = named(rule, "rebalanced", "none") | {"move_cost": move_cost, "cost_per_point": float(paid)}
            yield what | {"regret": float(paid) / least - 1, **foreseen}
