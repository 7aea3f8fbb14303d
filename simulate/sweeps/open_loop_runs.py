"""Open loop against recorded: the same runs on a re-gated trace and on one that was recorded under the rule.

Everything is a sweep's table: `OUT/NAME/regated.parquet` and `OUT/NAME/recorded.parquet` hold the runs of one rule,
`OUT/source.parquet` the closed loop of the source trace at its own k, which is the answer of one who does not re-gate
at all. Workers open traces by path, so the re-gated one is a file beside its table: `OUT/NAME/regated.trace.parquet`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from moe_replay.simulate.config.costs import table_for
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.sweep import sweep
from moe_replay.traces.command_line.outputs import WAY_OUT
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.regating import check_pair, regate, rule_of
from moe_replay.traces.runs.sweep_table import FAILED
from moe_replay.traces.selections import Trace

SUFFIX = ".trace.parquet"
SOURCE, REGATED, RECORDED = "source", "regated", "recorded"


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

    def poisson(self, regated: Study) -> list[RunConfig]:
        """Return the Poisson runs. Both traces get the rate that a user of the re-gated one would work out."""
        capacity = regated.capacity_per_s(None, self.queue_size, True, 1)
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
    study: Study, files: list[Path], plan: OpenLoopPlan, out: Path, jobs: int, force: bool = False
) -> dict[str, str]:
    """Simulate every rule both ways and the source, the study's trace, once; return {run: reason} of those that failed.

    What is on disk already is kept, and other runs there are refused unless `force` replaces them. InputError as in
    `simulate.sweeps.sweep.sweep`, and for a recorded trace that is no partner of the source.
    """
    source = load_trace(study.trace)
    study.cost_model(table_for(study.costs, None)).check_dense(source.L)
    failed = carried_out(study, plan.closed(), out, SOURCE, jobs, force)
    for path in files:
        name = path.name.removesuffix(SUFFIX)
        regated = replace(study, trace=out / name / f"{REGATED}{SUFFIX}")
        save_unless_there(regated_like(source, path), regated.trace, force)
        configs = plan.closed() + plan.poisson(regated)
        failed |= carried_out(regated, configs, out, f"{name}/{REGATED}", jobs, force)
        failed |= carried_out(replace(study, trace=path), configs, out, f"{name}/{RECORDED}", jobs, force)
    return failed


def regated_like(source: Trace, path: Path) -> Trace:
    """Return the source re-gated to the rule of the trace in a file; InputError if that is no partner of it."""
    recorded = load_trace(path)
    try:
        check_pair(source, recorded)
        return regate(source, rule_of(recorded), provenance())
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def save_unless_there(trace: Trace, path: Path, force: bool) -> None:
    """Write a trace; a file that holds the same choices is left as it is, another one is refused without `force`."""
    try:
        there = load_trace(path).digest if path.exists() else None
    except InputError:
        there = "damaged"
    if there not in (None, trace.digest) and not force:
        raise InputError(f"{path}: exists and holds another trace; {WAY_OUT}")
    if there != trace.digest:
        save_trace(trace, path)


def carried_out(
    study: Study, configs: list[RunConfig], out: Path, place: str, jobs: int, force: bool
) -> dict[str, str]:
    """Simulate one trace into the table OUT/PLACE.parquet; return {PLACE/run: reason} of the runs that failed."""
    points = sweep(study, {config.name: config for config in configs}, out / f"{place}.parquet", jobs, force=force)
    return {f"{place}/{point.run}": point.reason for point in points if point.status == FAILED}
