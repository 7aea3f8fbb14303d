"""Grids of configurations: the cross product of what one sweeps, with arrival rates worked out from loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product

import numpy as np

from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.config.run_config import RunConfig, has_meaning
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.policies.arrivals import ARRIVALS
from moe_replay.simulate.policies.placement import place
from moe_replay.traces.command_line.memory_room import CONFIGURATION, check_room
from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class RunGrid:
    """What is swept; lists that mean nothing under a scheduler or an arrival process are left unused there.

    `schedulers`, `queue_sizes` (queues), `max_steps` (lockstep), `in_flight` (closed), `loads` or `rates_per_s`
    (poisson), `speeds` (recorded), `ks` and `seeds` are lists of the fields of RunConfig; `fixed` holds its remaining
    fields, the arrival process among them. A load is the rate over the capacity at the largest of `queue_sizes`.
    """

    fixed: dict
    schedulers: list[str]
    queue_sizes: list[int]
    max_steps: list[int | None]
    in_flight: list[int]
    loads: list[float]
    rates_per_s: list[float]
    ks: list[int | None]
    seeds: list[int | None]
    speeds: list[float] = field(default_factory=list)

    def configs(self, capacity_per_s: dict[int | None, float]) -> list[RunConfig]:
        """Return every configuration; `capacity_per_s` is the capacity at the largest queue size, for every k."""
        scheduling = len(self.queue_sizes) + len(self.max_steps)
        arriving, seeds = len(self.in_flight) or len(self.loads) or len(self.speeds) or 1, self._seeds()
        most = len(self.ks) * len(self.schedulers) * scheduling * arriving * len(seeds)
        check_room("the grid: runs", most, CONFIGURATION)
        return [
            RunConfig(**self.fixed, **scheduling, **arriving, k=k, seed=seed)
            for k in self.ks
            for scheduling in self._scheduling()
            for arriving in self._arriving(capacity_per_s.get(k))
            for seed in seeds
        ]

    def _seeds(self) -> list[int | None]:
        """Return the seeds; under recorded arrivals nothing is drawn, so that one of them is none."""
        if self.fixed["arrivals"] != "recorded" or self.seeds == [None]:
            return self.seeds
        if len(self.seeds) > 1:
            raise InputError(
                f"--replications {len(self.seeds)}: arrivals 'recorded' draw nothing, all would be alike; allowed: 1"
            )
        return [None]

    def _scheduling(self) -> Iterator[dict]:
        for scheduler in self.schedulers:
            lists = {"queue_size": self.queue_sizes, "max_step": self.max_steps}
            used = {name: values for name, values in lists.items() if has_meaning(name, scheduler)}
            for values in product(*used.values()):
                yield {"scheduler": scheduler, **dict(zip(used, values, strict=True))}

    def _arriving(self, capacity_per_s: float | None) -> Iterator[dict]:
        arrivals = self.fixed["arrivals"]
        if self.speeds and not has_meaning("speed", arrivals):
            raise InputError(f"--speed has no meaning under arrivals {arrivals!r}, only under 'recorded'")
        speeds = [{"speed": speed} for speed in self.speeds] or [{}]
        closed = [{"in_flight": number} for number in self.in_flight]
        if arrivals == "closed":
            yield from needed(closed, "closed", "--in-flight")
        elif arrivals == "poisson":
            yield from needed(self._rates(capacity_per_s), "poisson", "--load or --rate")
        elif arrivals == "recorded":
            yield from speeds
        elif ARRIVALS.is_own(arrivals):
            for one, other, speed in product(closed or [{}], self._rates(capacity_per_s) or [{}], speeds):
                yield {**one, **other, **speed}
        else:
            yield {}

    def _rates(self, capacity_per_s: float | None) -> list[dict]:
        loads = [{"load": load, "rate_per_s": load * capacity_per_s} for load in self.loads]
        return loads + [{"rate_per_s": rate_per_s} for rate_per_s in self.rates_per_s]


def needed(values: list, arrivals: str, option: str) -> list:
    """Return the values, or refuse an arrival process without them."""
    if not values:
        raise InputError(f"arrivals {arrivals!r} needs {option}")
    return values


def capacity_per_s(
    workload: Workload, cost: Cost, batch: int, dense: bool, devices: int, placement: str = "contiguous"
) -> float:
    """Return the sequences per second that the busiest device lets through if every batch holds `batch` members.

    A dense batch of B passes costs by B times the mean tokens of a pass, rounded.
    """
    device_LB = place(placement, workload.layers, workload.experts, devices)
    sequences = len(workload.first_pass_G)
    dense_tokens = round(batch * workload.tokens_P.mean())
    work_ns_D = [0.0] * devices
    for layer, selections_D in enumerate(selections_by_device(workload, device_LB, devices).tolist()):
        for device, selections in enumerate(selections_D):
            work_ns_D[device] += selections * cost(layer, 1, batch) / batch
    if dense:
        for layer in range(workload.layers + 1):
            work_ns_D[device_LB[layer, 0]] += workload.passes * cost(layer, 0, dense_tokens) / batch
    if not max(work_ns_D):
        raise InputError("a load is a share of the capacity, which costs of 0 ns do not bound; allowed: --rate")
    return sequences * 1e9 / max(work_ns_D)


def selections_by_device(workload: Workload, device_LB: np.ndarray, devices: int) -> np.ndarray:
    """Return [L, D], how many selections of every layer all passes send to every device."""
    ends_T = np.zeros(len(workload.experts_TLK) + 1, np.int64)  # a row is in as many passes as a cycled trace serves it
    np.add.at(ends_T, workload.first_row_P, 1)
    np.add.at(ends_T, workload.first_row_P + workload.tokens_P, -1)
    times_T = ends_T.cumsum()[:-1]
    counts_LD = np.empty((workload.layers, devices), np.int64)
    for layer in range(workload.layers):
        expert_TK = workload.experts_TLK[:, layer]
        row, _ = filled = np.nonzero(expert_TK >= 0)
        device = device_LB[layer, 1 + expert_TK[filled].astype(np.int64)]
        counts_LD[layer] = np.bincount(device, times_T[row], devices).round()
    return counts_LD
