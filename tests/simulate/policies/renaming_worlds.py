"""One world under several namings of its experts, and the aggregates of a run, which renaming must not change."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
from worlds import config

from moe_replay.simulate.config.costs import Affine
from moe_replay.simulate.config.memory_config import MASKED, MemoryConfig
from moe_replay.simulate.config.workload import Workload, build_workload
from moe_replay.simulate.engines.compiled_engine import simulate
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.policies.placement import PLACEMENTS

E, L, T = 16, 2, 160
SLOTS = 6  # of a layer, on all devices together


@dataclass(frozen=True)
class Named:
    """A world in which experts bear certain names; costs and devices (`home_LE`) go with the expert."""

    workload: Workload
    known: Known
    cost: Callable[[int, int, int], int]
    home_LE: np.ndarray

    def place(self, layers, experts, devices):
        """Return the placement that goes with the experts."""
        device_LB = np.zeros((layers + 1, experts + 1), np.int64)
        device_LB[:layers, 1:] = self.home_LE % devices
        return device_LB

    @property
    def placed(self):
        """A context in which a placement `renamed` is this one."""
        return patch.dict(PLACEMENTS, {"renamed": self.place})

    def records(self, run):
        """Return the records of a run of the compiled engine, experts where they belong."""
        with self.placed:
            return simulate(self.workload, replace(run, placement="renamed"), self.cost, {"config": {}}, self.known)


@dataclass(frozen=True)
class Plain:
    """What the namings are of: everything by an expert's number before it is renamed."""

    experts_TLK: np.ndarray  # every expert, those selected first
    scores_TLK: np.ndarray
    k: int
    worth_LE: np.ndarray
    cost_LE: np.ndarray | None  # None: the same for all
    home_LE: np.ndarray
    together: int

    def named(self, naming_LE):
        """Return the world in which expert e of layer l bears the name naming_LE[l, e]."""
        layer_L = np.arange(L)[:, None]
        ranked_TLK = naming_LE[layer_L, self.experts_TLK].astype(np.int16)
        by_name = np.argsort(naming_LE, 1)  # the expert that bears a name
        worth_LE, home_LE = (np.take_along_axis(each, by_name, 1) for each in (self.worth_LE, self.home_LE))
        sequence_T, step_T = np.arange(T) % self.together, np.arange(T) // self.together
        selected_TLK = np.ascontiguousarray(ranked_TLK[..., : self.k])
        workload = build_workload(selected_TLK, sequence_T.astype(np.int32), step_T.astype(np.int32), E)
        workload = replace(workload, candidates_TLK=ranked_TLK, scores_TLK=self.scores_TLK)
        return Named(workload, Known(*[worth_LE.ravel().tolist()] * 2), self.cost(by_name), home_LE)

    def cost(self, by_name_LE):
        """Return the cost where the expert that bears a name is told."""
        if self.cost_LE is None:
            return Affine(900_000, 100_000)
        cost_LE = np.take_along_axis(self.cost_LE, by_name_LE, 1).tolist()
        return lambda layer, block, tokens: cost_LE[layer][block - 1] + 100_000 * (tokens - 1)


def worlds(k, together=1, even_costs=True, even_worth=False, follows=False):
    """Return one world under five namings, two of them by popularity.

    `together` sequences take turns; a token selects k of the 16 experts, popular ones more often. `even_costs`: a batch
    takes as long for every expert; `even_worth`: experts are popular in four classes of equals; `follows`: each expert
    has one that follows it, so that what follows it most often is never in doubt.
    """
    rng = np.random.default_rng(3)
    weight_E = rng.dirichlet(np.full(E, 0.5)) + 1e-3
    order = [rng.choice(E, E, replace=False, p=weight_E / weight_E.sum()) for _ in range(T * L)]
    experts_TLK = np.array(order).reshape(T, L, E)
    if follows:
        follow(experts_TLK)
    loads = [np.bincount(experts_TLK[:, layer, :k].ravel(), minlength=E) for layer in range(L)]
    worth_LE = np.stack(loads) + rng.permutation(E) / E  # no two alike
    ranks = np.argsort(np.argsort(worth_LE, 1), 1)
    cost_LE = None if even_costs else rng.integers(500_000, 1_500_000, (L, E))
    home_LE = np.stack([rng.permutation(E) for _ in range(L)])
    scores_TLK = -np.sort(-rng.dirichlet(np.ones(E), (T, L))).astype(np.float32)
    worth = (ranks // 4).astype(float) if even_worth else worth_LE
    plain = Plain(experts_TLK, scores_TLK, k, worth, cost_LE, home_LE, together)
    namings = [np.stack([rng.permutation(E) for _ in range(L)]) for _ in range(3)]
    return [plain.named(naming) for naming in [*namings, ranks, E - 1 - ranks]]


def follow(experts_TLK):
    """Let the expert that a token selects first in the second layer hang on that of the first."""
    for first, second in experts_TLK:
        at = int(np.flatnonzero(second == (first[0] + 5) % E)[0])
        second[[0, at]] = second[[at, 0]]


def settings(scheduler, arrivals, devices=1, **memory):
    """Return the configuration of a run."""
    filled = memory.pop("filled", memory["miss"] in ("host", *MASKED))
    slots = memory.pop("slots", SLOTS // devices)
    kept = MemoryConfig(slots=slots, filled=filled, link_latency_ns=700_000, link_bytes_per_s=1e12, **memory)
    return config(**scheduler, **arrivals, devices=devices, memory=kept)


def aggregates(records):
    """Return [makespan, passes' latencies in order of size, counts, batches of every device and of the host]."""
    passes, batches = records.passes, records.batches
    took = sorted((passes["end_ns"] - passes["arrival_ns"]).tolist())
    return [int(passes["end_ns"].max()), took, records.header["memory"], np.bincount(batches["device"]).tolist()]
