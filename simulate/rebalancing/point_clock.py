"""Points on the clock of linked devices: how long their steps take, and what moving experts adds to it.

A point is one step: its tokens leave their home devices for the experts that they selected, wherever these are then,
and come back. *Synchronous* moves begin when the step before is over, and the next step when all of them are there.
*Hidden* moves begin with the next step, in front of its messages on the same ports; the step has the new placement, and
a device runs its experts of a layer when their weights are there. *Background* moves wait on each port until there is
no message of a step; an expert is used at its new place by the first step that begins when it is there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload, home_devices
from moe_replay.simulate.engines.cluster_steps import ClusterSteps, carry_all
from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.policies.cluster.moving_experts import SharedPorts
from moe_replay.simulate.rebalancing.load_points import LoadPoints
from moe_replay.simulate.rebalancing.moves import HeldExperts, slots_of_used
from moe_replay.traces.errors import InputError, unknown_name

SYNCHRONOUS, HIDDEN, BACKGROUND = MOVES = ("synchronous", "hidden", "background")


@dataclass(frozen=True)
class Clock:
    """What gives points a time: links, costs, whether dense blocks take any, which `moves` are tried, and an engine."""

    cluster: ClusterConfig
    cost: Cost
    moves: tuple[str, ...] = MOVES
    dense: bool = True
    engine: str = "auto"

    def __post_init__(self) -> None:
        for name in self.moves:
            if name not in MOVES:
                raise unknown_name("--moves", name, MOVES)


@dataclass(frozen=True, eq=False)
class Timed:
    """What the steps of some points took: `step_ns_S` each, `stall_ns_S` what moves added, the bytes that were moved.

    A synchronous stall is before its step and no part of it; another one is within it: what the step took longer than
    it would have with the same copies and no moves.
    """

    step_ns_S: np.ndarray
    stall_ns_S: np.ndarray
    moved_bytes: int
    end_ns: int

    @property
    def columns(self) -> dict:
        """The columns of a row."""
        return {
            "clock_ms": self.end_ns / 1e6, "moved_bytes": self.moved_bytes,
            "moves_stall_ms": int(self.stall_ns_S.sum()) / 1e6,
        }  # fmt: skip


class PointClock:
    """Times the points of a source under a clock; `advance` is called after every step.

    InputError where the source tells counts only, or not how large an expert is.
    """

    def __init__(
        self, points: LoadPoints, shape: ClusterShape, clock: Clock, expert_bytes: int | None,
        advance: Callable[[], object] = lambda: None,
    ) -> None:  # fmt: skip
        if points.experts_SNLK is None:
            raise InputError(f"{points.name}: counts do not tell who shares a token; allowed with --links: a trace")
        if expert_bytes is None:
            raise InputError(f"{points.name}: does not tell the size of an expert; allowed: --expert-bytes")
        self.points, self.shape, self.clock, self.expert_bytes = points, shape, clock, expert_bytes
        self.experts, self.advance = points.load_SLE.shape[2], advance
        self.config = RunConfig(
            scheduler="lockstep", arrivals="all", devices=shape.devices, cluster=clock.cluster, dense=clock.dense
        )
        ranks = None if points.rank_SN is None else points.rank_SN.ravel()
        home_T = home_devices(points.sequence_SN.ravel(), ranks, clock.cluster.homes, shape.devices)
        self.home_SN = home_T.reshape(points.sequence_SN.shape)
        self.taken: dict[tuple[int, bytes], int] = {}  # ns of a point with these copies: many rules share them
        self.latest: tuple[bytes, ClusterSteps] = (b"", None)

    def kept(self, placements: Iterable[np.ndarray], first: int) -> dict:
        """Return the columns of points first, first + 1, ... under these placements, [L, P] each, without moves."""
        taken = []
        for point, expert_LP in enumerate(placements, first):
            held = HeldExperts(expert_LP, self.shape, self.experts, self.expert_bytes)
            taken.append(self.alone_ns(point, held.wanted_LDE))
            self.advance()
        return {"moves": "", **Timed(np.array(taken), np.zeros(1, np.int64), 0, sum(taken)).columns}

    def rebalanced(self, expert_SLP: np.ndarray, first: int, moves: str) -> Timed:
        """Return the times of points first, first + 1, ..., which want these placements one after another."""
        held = HeldExperts(expert_SLP[0], self.shape, self.experts, self.expert_bytes)
        ports = SharedPorts(self.config, behind=moves == BACKGROUND)
        rows, now, moved_bytes, before_LP = [], 0, 0, expert_SLP[0]
        for point, expert_LP in enumerate(expert_SLP, first):
            held.receive(ports)
            stall_ns = 0
            if not np.array_equal(expert_LP, before_LP):
                moved_bytes += held.follow(expert_LP, ports, now)
                before_LP = expert_LP
                if moves == SYNCHRONOUS:
                    stall_ns = carry_all(ports, now) - now
                held.receive(ports)
            used_LDE = held.usable_LDE if moves == BACKGROUND else held.wanted_LDE
            step_ns = alone_ns = self.alone_ns(point, used_LDE)
            if ports.busy:
                awaited = set() if moves == BACKGROUND else held.awaited
                step_ns = self.steps(used_LDE).step_end(self.workload(point), ports, now, awaited) - now
                stall_ns = step_ns - alone_ns
            now += step_ns + (stall_ns if moves == SYNCHRONOUS else 0)
            rows.append((step_ns, stall_ns))
            self.advance()
        step_ns_S, stall_ns_S = np.array(rows, np.int64).T
        return Timed(step_ns_S, stall_ns_S, moved_bytes, now)

    def alone_ns(self, point: int, used_LDE: np.ndarray) -> int:
        """Return how long the step of a point takes with these copies and nothing else on the ports."""
        key = point, digest_of(used_LDE)
        if key not in self.taken:
            self.taken[key] = self.steps(used_LDE).step_ns(self.workload(point))
        return self.taken[key]

    def steps(self, used_LDE: np.ndarray) -> ClusterSteps:
        """Return what plays steps with these copies, kept until others are asked for."""
        key = digest_of(used_LDE)
        if key != self.latest[0]:
            slots_LP = slots_of_used(used_LDE)
            self.latest = key, ClusterSteps(self.config, self.clock.cost, self.clock.engine, slots_LP)
        return self.latest[1]

    def workload(self, point: int) -> Workload:
        """Return a point's tokens as one pass."""
        experts_TLK, nothing = self.points.experts_SNLK[point], np.zeros(1, np.int64)
        return Workload(
            experts_TLK=experts_TLK, experts=self.experts, first_row_P=nothing, tokens_P=np.array([len(experts_TLK)]),
            sequence_P=nothing, step_P=nothing, group_P=nothing, round_P=nothing, home_T=self.home_SN[point],
        )  # fmt: skip


def digest_of(used_LDE: np.ndarray) -> bytes:
    """Return what tells copies apart, far smaller than they are."""
    return hashlib.blake2b(np.packbits(used_LDE), digest_size=16).digest()
