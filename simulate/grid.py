"""Grids of configurations: the cross product of what one sweeps, with arrival rates worked out from loads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from simulate.costs import Cost
from simulate.policies.arrivals import ARRIVALS
from simulate.policies.config import RunConfig, has_meaning
from simulate.policies.workload import Workload
from traces.errors import InputError
from traces.room import CONFIGURATION, check_room


@dataclass(frozen=True)
class Sweep:
    """What is swept; lists that mean nothing under a scheduler or an arrival process are left unused there.

    `schedulers`, `queue_sizes` (queues), `max_steps` (lockstep), `in_flight` (closed), `loads` or `rates_per_s`
    (poisson), `ks` and `seeds` are lists of the fields of RunConfig; `fixed` holds its remaining fields, the arrival
    process among them. A load is the rate over the capacity at the largest of `queue_sizes`.
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

    def configs(self, capacity_per_s: dict[int | None, float]) -> list[RunConfig]:
        """Return every configuration; `capacity_per_s` is the capacity at the largest queue size, for every k."""
        scheduling, arriving = len(self.queue_sizes) + len(self.max_steps), len(self.in_flight) or len(self.loads) or 1
        most = len(self.ks) * len(self.schedulers) * scheduling * arriving * len(self.seeds)
        check_room("the grid: runs", most, CONFIGURATION)
        return [
            RunConfig(**self.fixed, **scheduling, **arriving, k=k, seed=seed)
            for k in self.ks
            for scheduling in self._scheduling()
            for arriving in self._arriving(capacity_per_s.get(k))
            for seed in self.seeds
        ]

    def _scheduling(self) -> Iterator[dict]:
        for scheduler in self.schedulers:
            lists = {"queue_size": self.queue_sizes, "max_step": self.max_steps}
            used = {name: values for name, values in lists.items() if has_meaning(name, scheduler)}
            for values in product(*used.values()):
                yield {"scheduler": scheduler, **dict(zip(used, values, strict=True))}

    def _arriving(self, capacity_per_s: float | None) -> Iterator[dict]:
        arrivals = self.fixed["arrivals"]
        closed = [{"in_flight": number} for number in self.in_flight]
        if arrivals == "closed":
            yield from needed(closed, "closed", "--in-flight")
        elif arrivals == "poisson":
            yield from needed(self._rates(capacity_per_s), "poisson", "--load or --rate")
        elif ARRIVALS.is_own(arrivals):
            for one, other in product(closed or [{}], self._rates(capacity_per_s) or [{}]):
                yield {**one, **other}
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


def capacity_per_s(workload: Workload, cost: Cost, batch: int, dense: bool, devices: int) -> float:
    """Return the sequences per second that the devices complete if every batch holds `batch` members.

    The work of the mean sequence, shared evenly between the devices: an upper bound where placement is uneven. A dense
    batch of B passes costs by B times the mean tokens of a pass, rounded.
    """
    sequences = len(workload.first_pass_G)
    dense_tokens = round(batch * workload.tokens_P.mean())
    work_ns = 0.0
    for layer, selections in enumerate(workload.selections_PL.sum(axis=0).tolist()):
        work_ns += selections * cost(layer, 1, batch) / batch
    if dense:
        for layer in range(workload.layers + 1):
            work_ns += workload.passes * cost(layer, 0, dense_tokens) / batch
    if not work_ns:
        raise InputError("a load is a share of the capacity, which costs of 0 ns do not bound; allowed: --rate")
    return devices * sequences * 1e9 / work_ns
