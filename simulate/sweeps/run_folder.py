"""Simulating many configurations of one trace on every core, into a folder of run records."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from moe_replay.simulate.config.costs import CostModel
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import homes_rule, trace_workload
from moe_replay.simulate.engines.engine_choice import engine_for, simulate
from moe_replay.simulate.policies.halves import sequences_served
from moe_replay.simulate.policies.memory.expert_worth import known_of
from moe_replay.simulate.policies.memory.knowledge_source import Lesson, known_fields
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.policies.placement import check_layers
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.simulate.sweeps.workers import WorkersLostError, cores, unordered
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.routes import uncomputed
from moe_replay.traces.runs.run_records import RunRecords, holds_run
from moe_replay.traces.selections import Trace


@dataclass(frozen=True)
class Runs:
    """What the runs of one folder share: the trace, where costs come from, and their provenance.

    Of the trace its choices are enough (`choices_only`), but for masked gating. `known` is what cache policies know,
    `known_digest` that of the trace they know it from, `engine` one of `simulate.engines.engine_choice.ENGINES`.
    `force` lets other runs of the same names be replaced.
    """

    trace: Trace
    trace_digest: str
    costs: CostModel
    folder: Path
    provenance: dict
    known: Known | None = None
    known_digest: str | None = None
    engine: str = "auto"
    force: bool = False

    def simulate(self, config: RunConfig) -> RunRecords:
        """Return the records of one configuration."""
        workload = trace_workload(self.trace, config)
        if config.dense:
            self.costs.check_dense(workload.layers)
        header = run_header(
            "simulated", config, self.costs.device, self.trace_digest, self.costs.digest,
            {**self.provenance, "seed": config.seed},
        )  # fmt: skip
        if config.memory is not None:
            header |= known_fields(config.memory, self.known, self.known_digest)
        if config.cluster is not None:
            header["homes"] = homes_rule(config.cluster.homes, self.trace.rank_T)
        cost, transfer_ns = self.costs.cost(config.generator("service")), self.costs.transfer_ns(config.memory)
        return simulate(workload, config, cost, header, self.known, transfer_ns, self.engine)

    def is_complete(self, name: str, config: RunConfig) -> bool:
        """Say whether the folder holds this run already: whole, of the same configuration, trace and costs.

        InputError for another run under its name, unless `force` is set.
        """
        wanted = {"config": config.as_dict(), "trace_digest": self.trace_digest, "costs_digest": self.costs.digest}
        if config.memory is not None:
            wanted |= known_fields(config.memory, self.known, self.known_digest)
        wanted["own_rules"] = config.own_rules or None
        return holds_run(self.folder, name, wanted, self.force)

    def carry_out(self, name: str, config: RunConfig) -> tuple[str, str]:
        """Simulate a run and save it under a name; return the name and why it failed, if it did."""
        try:
            self.simulate(config).save(self.folder, name)
        except InputError as error:
            return name, str(error)
        return name, ""


def new_runs(
    trace: Trace, costs: CostModel, out: Path, configs: Sequence[RunConfig], lesson: Lesson | None = None,
    engine: str = "auto", force: bool = False,
) -> Runs:  # fmt: skip
    """Return what the runs of one folder share, with the running command as their provenance.

    `lesson` tells the caches of the configurations that have any; scores travel along only where gating is masked.
    """
    for placement in {config.placement for config in configs}:
        check_layers(placement, trace.header.model.layer_ids)
    memories = [config.memory for config in configs if config.memory is not None]
    told, digest = None, None
    if lesson is not None and memories:
        k = configs[0].k or lesson.trace.header.model.used_k
        told, digest = known_of(lesson.trace, k, memories, lesson.mark), lesson.trace.digest
    kept = trace if any(memory.is_masked for memory in memories) else choices_only(trace)
    return Runs(kept, trace.digest, costs, out, provenance(), told, digest, engine, force)


def choices_only(trace: Trace) -> Trace:
    """Return the trace without what a simulation does not look at, so that it travels to other processes cheaply."""
    optional = {
        name: None
        for name in trace.present
        if name not in ("experts_TLK", "sequence_T", "step_T", "rank_T", "arrival_ns_S")
    }
    kept = {name: getattr(trace, name) for name in ("position_T", "phase_T")}
    return replace(trace, **{**optional, **kept}, header=replace(trace.header, score_kind=None))


def simulate_all(runs: Runs, configs: dict[str, RunConfig], jobs: int) -> dict[str, str]:
    """Simulate every named configuration that is not complete yet; return {name: reason} of those that failed.

    InputError where a process died in the middle of a run; what is complete then is kept.
    """
    pending = {name: config for name, config in configs.items() if not runs.is_complete(name, config)}
    if len(pending) < len(configs):
        print(f"{len(configs) - len(pending)} of {len(configs)} runs are complete already")
    if not pending:
        return {}
    engines = {engine_for(runs.engine, config) for config in pending.values()}
    slowest = "compiled" if engines == {"compiled"} else "simpy"
    done = {}
    try:
        with progress_bar() as progress:
            bar = progress.add_task(f"simulating, {' and '.join(sorted(engines))} engine", total=len(pending))
            for name, reason in unordered(runs.carry_out, pending.items(), cores(jobs, len(pending)), slowest, 1):
                done[name] = reason
                progress.advance(bar)
    except WorkersLostError as error:
        kept = f"{len(configs) - len(pending) + list(done.values()).count('')} of {len(configs)} runs"
        raise InputError(f"{error}; {kept} are in {runs.folder}, the same command continues there") from None
    return {name: reason for name, reason in sorted(done.items()) if reason}


def progress_bar() -> Progress:
    """Return a progress bar on stderr that says how many are done and how long the rest will take.

    A notebook has none: there it would be a warning for every step, or one more output of the cell.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, disable=console.is_jupyter)


def report(runs: Runs, configs: dict[str, RunConfig], jobs: int) -> None:
    """Simulate and say where the records are; every run that failed is named, and the exit status says so."""
    say_who_waits(configs.values(), runs.trace)
    failed = simulate_all(runs, configs, jobs)
    for said in uncomputed(runs.trace, runs.trace.header.model.used_k):
        print(f"no expert's time: {said}")
    print(f"{len(configs) - len(failed)} of {len(configs)} runs in {runs.folder}")
    refuse_failed(failed, f" of {len(configs)}")


def say_who_waits(configs: Collection[RunConfig], trace: Trace) -> None:
    """Say where more sequences are to be in flight than a run serves of a trace."""
    of_part = {part: sequences_served(trace, part) for part in {config.served for config in configs}}
    more = {
        (config.in_flight, served)
        for config in configs
        if config.in_flight is not None and config.in_flight > (served := config.sequences or of_part[config.served])
    }
    for in_flight, served in sorted(more):
        print(f"in flight {in_flight:,} of {served:,} sequences: all of them are from the start, and none follows")


def refuse_failed(failed: dict[str, str], of: str = "") -> None:
    """Name the runs that failed, and end with an error if there are any; a single one is named in it."""
    if len(failed) == 1:
        (name, reason), *_ = failed.items()
        raise InputError(f"{name}: failed: {reason} (1{of} runs)")
    for name, reason in failed.items():
        print(f"{name}: failed: {reason}", file=sys.stderr)
    if failed:
        raise InputError(f"{len(failed)}{of} runs failed, for the reasons above")
