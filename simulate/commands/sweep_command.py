"""`python -m simulate sweep`: many configurations and seeds, one table."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.commands import options
from moe_replay.simulate.policies.memory.knowledge_source import file_of
from moe_replay.simulate.sweeps.axes import FIELDS, read_axes
from moe_replay.simulate.sweeps.run_folder import say_who_waits
from moe_replay.simulate.sweeps.shards import MOST, array_script, read_shard
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.sweep import merged, sweep
from moe_replay.simulate.sweeps.taught_study import taught
from moe_replay.traces.command_line.command import seeds
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.command_line.provenance import provenance, running_command, without_options
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import InputError
from moe_replay.traces.routes import uncomputed
from moe_replay.traces.runs.sweep_table import FAILED, SweepPoint

NOT_IN_PROVENANCE = ("--jobs", "--dask", "--shard", "--sbatch")  # who computes changes no result
REASONS_SHOWN = 10
Dask = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Dask scheduler whose workers compute, and see the same files.",
    ),
]
Table = Annotated[Path, typer.Option(metavar="TABLE.parquet", help="The table: a row per configuration and seed.")]


@dataclass(frozen=True)
class AxisOptions:
    """What is swept over, and with how many seeds."""

    axis: Annotated[
        list[str] | None, typer.Option(metavar="NAME=V1,V2", help=f"What is swept, once each: {', '.join(FIELDS)}.")
    ] = None
    grid: Annotated[Path | None, typer.Option(metavar="GRID.toml", help="Axes as lists or single values.")] = None
    replications: Annotated[
        int, COUNT.option(low=0, help="Seeds 0..n-1 of every configuration; 0: one run in the trace's order.")
    ] = 1


@dataclass(frozen=True)
class ShardOptions:
    """How a sweep is split over machines that have no common scheduler."""

    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Carry out the I-th of N shards; all may run at once, anywhere.")
    ] = None
    merge: Annotated[bool, typer.Option("--merge", help="Make the table of finished shards.")] = False
    sbatch: Annotated[
        int | None, COUNT.option(low=1, high=MOST, help="Print a script for a Slurm array of N shards, and end.")
    ] = None

    def check(self, dask: str | None, running: options.RunningOptions) -> None:
        """Raise InputError for options that exclude each other."""
        if dask is not None and running.jobs:
            raise InputError("--jobs has no meaning beside --dask: the cluster has its workers")
        asked = [f"--{name}" for name in ("shard", "merge", "sbatch") if getattr(self, name)]
        asked += ["--dask"] * (dask is not None) + ["--force"] * (running.force and self.merge)
        if len(asked) > 1:
            raise InputError(f"{' and '.join(asked)} exclude each other; allowed: one of them")


@grouped
def sweep_command(
    trace_path: options.TracePath, out: Table, swept: AxisOptions, cost: options.DrawnCostOptions,
    running: options.RunningOptions, split: ShardOptions, known: options.Known = None, dask: Dask = None,
) -> None:  # fmt: skip
    """Simulate the cross product of all axes, many seeds each, into one table; the same command continues it.

    An axis is a field of a run, of its expert memory (`cache=resident` is none) or of linked devices (`links=none`).
    `load` is a share of the capacity at the largest queue size, slots of every layer are `4.8.8`, an empty field is
    `none`. Axes that mean something under one scheduler or arrival process bring it along. All configurations meet the
    same seeds. A point that fails is a marked row. `python -m analysis runs TABLE.parquet` shows the table.

    `--shard 1/4` to `4/4`, then `--merge`, are the same sweep on machines that see the same files.

    Example: `python -m simulate sweep wide.trace.parquet --costs costs.parquet --axis queue_size=8,32,128
    --axis in_flight=64,512 --replications 20 --out sweep.parquet`
    """
    split.check(dask, running)
    check_place(out, [trace_path, swept.grid, cost.costs, file_of(known)])
    command = without_options(running_command(), NOT_IN_PROVENANCE, flags=("--merge",))
    if split.sbatch:
        print(array_script(command, split.sbatch), end="")
        return
    axes = read_axes(swept.axis or [], swept.grid)
    study = Study(trace_path, cost.costs, cost.affine, cost.resample, file_of(known), running.engine)
    study, configs, learned = taught(study, axes, seeds(swept.replications), known)
    say_who_waits(configs.values(), study.opened("trace").trace)
    shard, made_by = split.shard and read_shard(split.shard), provenance(command=command)
    if split.merge:
        points = merged(study, configs, out, made_by)
    else:
        points = sweep(study, configs, out, running.jobs, dask, made_by, running.force, shard)
    trace = study.opened("trace").trace
    remarks = [f"no expert's time: {said}" for said in uncomputed(trace, trace.header.model.used_k)]
    for said in (*remarks, *([learned] if learned else ())):
        print(said)
    if shard:
        print(f"this is shard {shard}; when all are done: {shlex.join([*command, '--merge'])}")
    report(points, out)


def report(points: list[SweepPoint], out: Path) -> None:
    """Say how the points ended; name the reasons of those that failed, and end with an error if there are any."""
    count = Counter(point.status for point in points)
    print(f"{out}: {len(points)} points, " + ", ".join(f"{number} {status}" for status, number in count.most_common()))
    if count["short"] or count["unstable"]:
        print(f"why rows are short or unstable: python -m analysis runs {out}")
    reasons: dict[str, list[str]] = {}
    for point in points:
        if point.status == FAILED:
            reasons.setdefault(point.reason, []).append(point.run)
    for reason, names in list(reasons.items())[:REASONS_SHOWN]:
        print(f"{names[0]}" + f" and {len(names) - 1} more" * (len(names) > 1) + f": failed: {reason}", file=sys.stderr)
    if reasons:
        raise InputError(f"{count[FAILED]} of {len(points)} points failed, for the reasons in {out}")
