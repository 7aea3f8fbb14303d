"""Open loop against recorded: the same runs on a re-gated trace and on one that was recorded under the rule.

`OUT/NAME/regated` and `OUT/NAME/recorded` hold the runs of one rule, `OUT/source` the closed loop of the source trace
at its own k, which is the answer of one who does not re-gate at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from simulate.costs import CostModel
from simulate.grid import capacity_per_s
from simulate.policies.config import RunConfig
from simulate.policies.workload import trace_workload
from simulate.runs import Runs, choices_only, simulate_all
from traces.errors import InputError
from traces.regating import check_pair, regate, rule_of
from traces.selections import Trace
from traces.trace_file import load_trace

SUFFIX = ".trace.parquet"
SOURCE = "source"


@dataclass(frozen=True)
class OpenLoopPlan:
    """One closed loop and one Poisson load per seed; the load is a share of the re-gated trace's capacity at B.

    `sequences` of the trace are served, each once for None.
    """

    queue_size: int
    in_flight: int
    load: float
    seeds: list[int]
    sequences: int | None = None

    def closed(self) -> list[RunConfig]:
        """Return the closed loops."""
        return self.configs(arrivals="closed", in_flight=self.in_flight)

    def poisson(self, regated: Trace, costs: CostModel) -> list[RunConfig]:
        """Return the Poisson runs. Both traces get the rate that a user of the re-gated one would work out."""
        cost = replace(costs, resampled=False).cost(rng=None)
        capacity = capacity_per_s(trace_workload(regated, RunConfig()), cost, self.queue_size, True, 1)
        return self.configs(arrivals="poisson", load=self.load, rate_per_s=self.load * capacity)

    def configs(self, **arriving: object) -> list[RunConfig]:
        """Return one configuration per seed."""
        shared = {"queue_size": self.queue_size, "sequences": self.sequences, **arriving}
        return [RunConfig(**shared, seed=seed) for seed in self.seeds]


def rule_files(folder: Path, source: Path) -> list[Path]:
    """Return the traces recorded under rules that belong to a source by name: `wide-*` to `wide`; else InputError."""
    pattern = f"{source.name.removesuffix(SUFFIX)}-*{SUFFIX}"
    found = sorted(folder.glob(pattern))
    if not found:
        raise InputError(f"{folder}: holds no {pattern}, a trace recorded under a rule from the model of {source.name}")
    return found


def simulate_open_loop(
    source_path: Path, files: list[Path], costs: CostModel, plan: OpenLoopPlan, out: Path, provenance: dict, jobs: int
) -> dict[str, str]:
    """Simulate every rule both ways and the source once; return {run: reason} of those that failed."""
    source = load_trace(source_path)
    costs.check_dense(source.L)
    failed = carried_out(source, costs, plan.closed(), out / SOURCE, provenance, jobs)
    for path in files:
        recorded = load_trace(path)
        try:
            check_pair(source, recorded)
            regated = regate(source, rule_of(recorded))
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        configs = plan.closed() + plan.poisson(regated, costs)
        for kind, trace in (("regated", regated), ("recorded", recorded)):
            folder = out / path.name.removesuffix(SUFFIX) / kind
            failed |= carried_out(trace, costs, configs, folder, provenance, jobs)
    return failed


def carried_out(
    trace: Trace, costs: CostModel, configs: list[RunConfig], folder: Path, provenance: dict, jobs: int
) -> dict[str, str]:
    """Simulate the configurations of one trace into one folder; return {folder/run: reason} of those that failed."""
    runs = Runs(choices_only(trace), trace.digest, costs, folder, provenance)
    failed = simulate_all(runs, {config.name: config for config in configs}, jobs)
    return {f"{folder.name}/{name}": reason for name, reason in failed.items()}
