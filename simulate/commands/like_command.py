"""`python -m simulate like`: the executed runs of a folder, simulated."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.commands import options
from moe_replay.simulate.config.costs import read_costs, table_for
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.memory.knowledge_source import file_of, lesson_again
from moe_replay.simulate.sweeps.many_seeds import replicate
from moe_replay.simulate.sweeps.run_folder import Runs, new_runs, report
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.selections import Trace

Executed = Annotated[Path, typer.Argument(metavar="EXECUTED", help="Folder of executed runs, or of such folders.")]
TheirTrace = Annotated[Path, typer.Argument(metavar="TRACE", help="Their trace, or a folder with NAME.trace.parquet.")]
Only = Annotated[str, typer.Option(metavar="PATTERN", help="Only the runs whose names match, such as `*closed512*`.")]
Known = Annotated[
    str | None, typer.Option(metavar="TRACE|hindsight", help="The trace that the executed runs learned from.")
]
Replications = Annotated[
    int, COUNT.option(low=0, help="Besides, every configuration with seeds 0..n-1, into one table.")
]


@dataclass(frozen=True)
class Alike:
    """Executed runs of one trace that are simulated together: of one cost table and one part of the trace."""

    runs: Runs
    configs: dict[str, RunConfig]
    said: str  # what a reader must know of how policies learned


@grouped
def like_command(
    executed: Executed, trace_path: TheirTrace, out: options.Out, cost: options.DrawnCostOptions,
    running: options.RunningOptions, only: Only = "*", known: Known = None, replications: Replications = 0,
) -> None:  # fmt: skip
    """Simulate every executed run's own configuration, under its own name.

    Where runs keep experts differently `--costs` is a folder with resident.parquet, load.parquet, masked.parquet.
    With `--replications` the statistics of many seeds are in OUT/replications.parquet, a table of a sweep.
    With folders of both (operating points, say) the runs in EXECUTED/NAME are simulated on TRACE/NAME.trace.parquet.

    Example: `python -m simulate like executed wide.trace.parquet --costs costs.parquet --out simulated`
    """
    check_place(out, [executed, trace_path, cost.costs, file_of(known)], folder=True)
    work, repeated = [], []
    for folder, path, target in executed_folders(executed, trace_path, out):
        trace = load_trace(path)
        headers = executed_headers(folder, only, trace)
        work += alike(headers, trace, target, cost, known, running)
        if command.seeds(replications) != [None]:
            study = Study(path, cost.costs, cost.affine, cost.resample, file_of(known), running.engine)
            configs = [RunConfig.from_dict(header["config"]) for header in headers.values()]
            repeated.append((study, configs, replications, target, running.jobs, running.force))
    for each in work:
        report(each.runs, each.configs, running.jobs)
        if each.said:
            print(each.said)
    for each in repeated:
        print(f"{len(replicate(*each))} replications in {each[3]}")


def alike(
    headers: dict[str, dict], trace: Trace, target: Path, cost: options.DrawnCostOptions, known: str | None,
    running: options.RunningOptions,
) -> list[Alike]:  # fmt: skip
    """Return the executed runs of one trace, those of one cost table and one part of the trace together."""
    configs = {name: RunConfig.from_dict(header["config"]) for name, header in headers.items()}
    together: dict[tuple[Path | None, str], dict[str, RunConfig]] = {}
    for name, config in configs.items():
        together.setdefault((table_for(cost.costs, config.memory), config.served), {})[name] = config
    found = []
    for (table, served), own in together.items():
        lesson = lesson_again(trace, known, own, served, headers)
        model = read_costs(table, cost.affine, cost.resample)
        runs = new_runs(trace, model, target, list(own.values()), lesson, running.engine, running.force)
        found.append(Alike(runs, own, lesson.said))
    return found


def executed_folders(executed: Path, trace: Path, out: Path) -> list[tuple[Path, Path, Path]]:
    """Return (executed runs, their trace, where simulated ones go): one, or one per folder in `executed`."""
    if not trace.is_dir():
        return [(executed, trace, out)]
    names = sorted(path.name for path in executed.iterdir() if path.is_dir()) if executed.is_dir() else []
    if not names:
        raise InputError(f"{executed}: holds no folders of executed runs, as {trace}, a folder of traces, asks for")
    return [(executed / name, trace / f"{name}.trace.parquet", out / name) for name in names]


def executed_headers(folder: Path, only: str, trace: Trace) -> dict[str, dict]:
    """Return {name: header} of the executed runs whose names match; InputError for none, or of another trace."""
    names = fnmatch.filter(run_names(folder), only)
    if not names:
        raise InputError(f"{folder}: no complete run whose name matches {only!r}")
    return {name: executed_header(folder, name, trace) for name in names}


def executed_header(folder: Path, name: str, trace: Trace) -> dict:
    """Return the header of an executed run; refuse one that ran another trace."""
    header = load_run(folder, name).header
    if header.get("trace_digest") != trace.digest:
        raise InputError(
            f"{folder / name}: executed trace {header.get('trace_digest')}, the trace given is {trace.digest}; "
            "allowed: the trace that was executed"
        )
    return header
