"""The command that executes a layer stack within a time: shape-runs."""

import gc
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from moe_replay.collect.commands.app import Device, app
from moe_replay.collect.commands.execution_commands import header_of, is_new
from moe_replay.collect.commands.measured_subjects import Subject, shape_subject
from moe_replay.collect.devices import device_name, pick_device
from moe_replay.collect.execution.calibration import CalibrationPlan, measure_costs
from moe_replay.collect.execution.slow_tier import link_fields
from moe_replay.collect.real_layers.layer_shapes import SHAPES
from moe_replay.collect.real_layers.run_plan import QueueRuns, decode_steps, memory_runs
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.memory.expert_worth import known_of
from moe_replay.simulate.policies.memory.knowledge_source import lesson_of
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, SECONDS, SHARE
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.runs.cost_table import load_costs
from moe_replay.traces.selections import Trace

SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
EXECUTED_TRACE, MEMORY_TRACE = "executed.trace.parquet", "memory.trace.parquet"
COSTS, MEMORY_COSTS = "costs.parquet", "memory-costs"
TABLES = {"resident": None, "load": "load", "masked": "redirect"}  # of expert memory, by how a miss is handled


@dataclass(frozen=True)
class Task:
    """Something that is made at one go: a cost table or a run."""

    name: str
    make: Callable[[], object]


@dataclass(frozen=True)
class Stage:
    """Where and of what runs are made: a subject on its device, the folder, and how often costs are measured."""

    subject: Subject
    where: torch.device
    folder: Path
    repetitions: int

    def costs(self, path: Path, sizes: tuple[int, ...], memory: MemoryConfig | None = None) -> Iterable[Task]:
        """Yield the making of a cost table, unless it is there."""
        if path.exists():  # of another model or device it is refused where it is used
            return
        plan = CalibrationPlan(sizes, self.repetitions)
        header = {
            "device": device_name(self.where), "model": self.subject.about["model"], "data": self.subject.data,
            "threads": torch.get_num_threads(), "provenance": provenance(plan.seed),
        }  # fmt: skip
        build, k = self.subject.calibration, self.subject.k
        yield Task(str(path.name), lambda: measure_costs(build(), k, plan, header, memory).save(path))

    def runs(self, place: str, trace: Path, costs: Path, configs: list[RunConfig]) -> Iterable[Task]:
        """Yield the execution of every configuration that is not there; a trace and a cost table are read here."""
        if not costs.exists():
            yield Task(f"{len(configs)} runs in {place}, for want of {costs.name}", lambda: load_costs(costs))
            return
        recorded, table, out = load_trace(trace), load_costs(costs), self.folder / place
        real = self.subject.on_weights(trace, recorded, costs, table)
        memories = [config.memory for config in configs if config.memory is not None]
        lesson = lesson_of(recorded, None, {need for memory in memories for need in memory.needs})
        told = known_of(lesson.trace, self.subject.k, memories, lesson.mark) if memories else None
        shared = (device_name(self.where), recorded.digest, table.header["header_digest"])
        for config in lesson.shared(configs) if memories else configs:
            header = header_of(config, shared, told, lesson.trace.digest)
            if is_new(out, config, header, False):
                yield Task(
                    config.name,
                    lambda config=config, header=header: real.execute(config, header, told).save(out, config.name),
                )


@dataclass(frozen=True)
class RunOptions:
    """Which runs are executed, and for how long."""

    scale: Annotated[int, COUNT.option(low=1, help="Divides both widths.")] = 1
    seconds: Annotated[float, SECONDS.option(low=0, help="Nothing is begun after so many seconds.")] = 140
    share: Annotated[
        float, SHARE.option(low=0.001, high=1, help="Of each sequence's decode steps, from the first.")
    ] = 1 / 12
    queue_size: Annotated[str, typer.Option(help="Queue sizes B, with commas.")] = "1,4,16,64"
    in_flight: Annotated[str, typer.Option(help="Sequences in flight, with commas.")] = "32,256"
    slots: Annotated[str, typer.Option(help="Expert slots per layer, with commas.")] = "4,8,16"
    replications: Annotated[int, COUNT.option(low=1, help="Of the queues; replication i permutes by seed i.")] = 2
    sequences: Annotated[int, COUNT.option(low=1, help="Served with expert slots.")] = 1
    repetitions: Annotated[int, COUNT.option(low=1, help="Visits of every batch size in the cost tables.")] = 3

    def queues(self) -> QueueRuns:
        """Return the runs of queues and lockstep."""
        sizes = command.numbers(self.queue_size, "--queue-size")
        return QueueRuns(tuple(sizes), tuple(command.numbers(self.in_flight, "--in-flight")), self.replications)

    def slot_counts(self, recorded: Trace, slow: Trace, path: Path) -> list[int]:
        """Return the numbers of slots; InputError where a stepwise trace at `path` cannot drive runs with them."""
        counts = command.numbers(self.slots, "--slots")
        if max(counts) > recorded.E or slow.L != recorded.L:
            allowed = f"allowed 1..{recorded.E} slots, and a trace of {recorded.L} layers"
            raise InputError(f"--slots and --stepwise: {allowed}")
        if slow.scores_TLK is None or slow.norm_TL is None:
            raise InputError(f"{path}: allowed: a trace with scores and norms, as language-route records")
        return counts


@app.command("shape-runs")
@grouped
def shape_runs_command(
    shape: Annotated[str, typer.Argument(help=f"Layer shape: {', '.join(SHAPES)}.")],
    trace: Annotated[Path, typer.Option(help="Decode trace of as many experts: its decode steps are executed.")],
    stepwise: Annotated[Path, typer.Option(help="Stepwise trace with scores: runs with expert slots replay it.")],
    out: Annotated[Path, typer.Option(help="Folder of the set; what is there already is kept.")],
    asked: RunOptions,
    device: Device = "auto",
) -> None:
    """Execute queues, lockstep and expert slots on layers of a published shape, the most telling first, within a time.

    Cost tables come first; what is made is whole, and what the time did not allow is named. The same command again
    makes the rest. Exit status 1: something is missing.

    Example: `python -m collect shape-runs gpt-oss-20b --trace decode.trace.parquet --stepwise stepwise.trace.parquet
    --out logs/gpt-oss-20b`
    """
    began = time.monotonic()
    torch.set_num_threads(1)
    check_place(out, [trace, stepwise], folder=True)
    where, recorded, slow = pick_device(device), load_trace(trace), load_trace(stepwise)
    queues, counts = asked.queues(), asked.slot_counts(recorded, slow, stepwise)
    subject = shape_subject(shape, asked.scale, recorded.L, where)
    said("the model", began)
    keep(out / EXECUTED_TRACE, decode_steps(recorded, asked.share))
    keep(out / MEMORY_TRACE, slow)
    stage = Stage(subject, where, out, asked.repetitions)
    link = link_fields(where, None, None, subject.expert_bytes)
    slotted = memory_runs(counts, link, asked.sequences)
    if carry_out(tasks(stage, queues, slotted), began, asked.seconds):
        raise typer.Exit(1)


def tasks(stage: Stage, queues: QueueRuns, slotted: list[RunConfig]) -> Iterable[Task]:
    """Yield what is to be made, in order of importance."""
    folder = stage.folder
    executed, memory = folder / EXECUTED_TRACE, folder / MEMORY_TRACE
    sizes = tuple(size for size in SIZES if size < queues.largest_batch)
    yield from stage.costs(folder / COSTS, (*sizes, queues.largest_batch))
    yield from stage.runs("executed", executed, folder / COSTS, queues.first())
    for name, miss in TABLES.items():
        one = next((config.memory for config in slotted if config.memory and config.memory.miss == miss), None)
        yield from stage.costs(folder / MEMORY_COSTS / f"{name}.parquet", (1,), one)
    yield from stage.runs("memory-executed", memory, folder / MEMORY_COSTS / "load.parquet", slotted)
    yield from stage.runs("executed", executed, folder / COSTS, queues.rest())


def carry_out(wanted: Iterable[Task], began: float, seconds: float) -> int:
    """Make one thing after another until the time is up, saying what took how long; return how many are missing.

    What fails is named with its reason and leaves the others their chance.
    """
    missing = 0
    for task in wanted:
        if time.monotonic() - began > seconds:
            missing += 1
            print(f"skipped, the time is up: {task.name}", flush=True)
            continue
        gc.collect()  # slots of the run before go back
        at = time.monotonic()
        try:
            task.make()
        except Exception as error:  # whatever a device makes of it
            missing += 1
            reason = str(error) if isinstance(error, InputError) else traceback.format_exc()
            print(f"failed: {task.name}: {reason}", flush=True)
        else:
            said(task.name, at)
    print(f"{missing} missing after {time.monotonic() - began:.1f} s", flush=True)
    return missing


def said(name: str, since: float) -> None:
    """Print what something took."""
    print(f"{time.monotonic() - since:7.2f} s  {name}", flush=True)


def keep(path: Path, trace: Trace) -> None:
    """Save a trace that the runs are driven by; InputError where the path holds another trace."""
    if not path.exists():
        save_trace(trace, path)
    elif load_trace(path).digest != trace.digest:
        raise InputError(f"{path}: is another trace than these options give; allowed: the same, or another folder")
