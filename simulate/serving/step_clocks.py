"""How long a step of a serving engine takes: in lockstep on one device, or over linked devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload, homes
from moe_replay.simulate.engines.cluster_steps import ClusterSteps
from moe_replay.simulate.serving.composition import Part
from moe_replay.traces.describe import slots
from moe_replay.traces.routes import computed
from moe_replay.traces.selections import Trace

StepClock = Callable[[list[Part]], int]


def lockstep_clock(trace: Trace, cost: Cost, dense: bool) -> StepClock:
    """Return a function of a step: its ns in lockstep, dense blocks on all its tokens, active experts on theirs."""
    experts_TLK = slots(trace, trace.header.model.used_k)

    def step_ns(step: list[Part]) -> int:
        rows = np.concatenate([rows for _, rows in step])
        total = sum(cost(layer, 0, len(rows)) for layer in range(trace.L + 1)) if dense else 0
        for layer in range(trace.L):
            chosen = experts_TLK[rows, layer]
            counts_E = np.bincount(chosen[chosen >= 0], minlength=trace.E)
            total += sum(cost(layer, 1 + expert, int(counts_E[expert])) for expert in np.flatnonzero(counts_E).tolist())
        return total

    return step_ns


@dataclass(eq=False)
class ClusterClock:
    """Called with a step, returns its ns over linked devices, each step begun when all devices are idle.

    `steps` gives the times, `config` is that of the devices. Homes are those of the composed trace: recorded ranks
    where they count, else the number that a sequence, or a row, has in the order in which it is served.
    """

    trace: Trace
    config: RunConfig
    steps: ClusterSteps
    experts_TLK: np.ndarray = field(init=False)
    rank_T: np.ndarray | None = field(init=False, default=None)
    rows: int = 0  # computed so far

    def __post_init__(self) -> None:
        model, asked = self.trace.header.model, self.config.cluster
        self.trace.check_k(model.used_k)
        self.experts_TLK = computed(self.trace.experts_TLK[:, :, : model.used_k], model)
        if asked.homes == "trace" and self.trace.rank_T is not None:
            self.rank_T = homes(self.trace, asked.homes, self.config.devices)

    def homes_of(self, sequence: int, rows: np.ndarray) -> np.ndarray:
        """Return the home devices of rows of a sequence that is served, the next ones to be computed."""
        if self.rank_T is not None:
            return self.rank_T[rows]
        if self.config.cluster.homes == "row":
            return (self.rows + np.arange(len(rows))) % self.config.devices
        return np.full(len(rows), sequence % self.config.devices)

    def __call__(self, step: list[Part]) -> int:
        """Return the ns of a step."""
        home_T = []
        for sequence, rows in step:
            home_T.append(self.homes_of(sequence, rows))
            self.rows += len(rows)
        members, nothing = np.arange(len(step)), np.zeros(len(step), np.int64)
        tokens_P = np.array([len(rows) for _, rows in step])
        return self.steps.step_ns(
            Workload(
                experts_TLK=self.experts_TLK[np.concatenate([rows for _, rows in step])], experts=self.trace.E,
                first_row_P=np.cumsum(tokens_P) - tokens_P, tokens_P=tokens_P, sequence_P=members, step_P=nothing,
                group_P=members, round_P=nothing, home_T=np.concatenate(home_T),
            )
        )  # fmt: skip


def cluster_clock(
    trace: Trace, cost: Cost, dense: bool, devices: int, placement: str, cluster: ClusterConfig, engine: str = "auto"
) -> ClusterClock:
    """Return the clock of linked devices; InputError for devices, placements and ranks that do not fit."""
    config = RunConfig(
        scheduler="lockstep", arrivals="all", devices=devices, placement=placement, cluster=cluster, dense=dense
    )
    return ClusterClock(trace, config, ClusterSteps(config, cost, engine))
