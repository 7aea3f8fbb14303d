"""Commands that run models under the rules of `simulate.policies`: costs and execute. They parse, read, call, write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, track

from moe_replay.collect.commands.app import Force, ImageOptions, TorchOptions, app
from moe_replay.collect.commands.execution_options import (
    CalibrationOptions,
    Costs,
    KnownFrom,
    QueueOptions,
    SlotOptions,
    TierOptions,
)
from moe_replay.collect.commands.measured_subjects import CostSubjectOptions, SubjectOptions
from moe_replay.collect.devices import device_name
from moe_replay.collect.execution.calibration import check_tokens_fit, measure_costs
from moe_replay.collect.execution.executor import check_executable
from moe_replay.collect.execution.experiment import MemoryExperiment
from moe_replay.collect.real_layers.loop_costs import any_layer
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.memory.expert_worth import known_of
from moe_replay.simulate.policies.memory.knowledge_source import Lesson, file_of, known_fields, lesson_of
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place, is_made
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.runs.cost_table import CostTable, load_costs
from moe_replay.traces.runs.run_records import holds_run, run_identity
from moe_replay.traces.selections import Trace

Executed = Annotated[
    Path, typer.Option(help="Trace of this model on these inputs; for a --shape any of as many layers and experts.")
]
RecordFolder = Annotated[Path, typer.Option(help="Folder for the records; finished runs found there are kept.")]


@app.command("costs")
@grouped
def costs_command(
    out: Annotated[Path, typer.Option(help="Cost table to write.")],
    measured: CostSubjectOptions,
    images: ImageOptions,
    wanted: CalibrationOptions,
    tier: TierOptions,
    machine: TorchOptions,
    force: Force = False,
) -> None:
    """Measure what batches cost, inside the executor's own loop, on inputs of no run. Let nothing else run.

    With `--slots C` experts lie in the slow tier and C of a layer on the device, and what a transfer takes is measured
    too. Loading, masked gating and all experts resident need a table each: blocks do not cost the same under them.
    With `--model` a table of one MoE layer serves any layer of that model; its weights are drawn at random.

    Example: `python -m collect costs --model Qwen/Qwen3-30B-A3B --sizes 1,8,64,512 --out costs.parquet`
    """
    measured.check()
    measured.check_slots(wanted.slots)
    if is_made(out, [measured.checkpoint], force):
        return
    where = machine.pick()
    subject, plan = measured.on(where, images), wanted.plan()
    header = {
        "device": device_name(where), "model": subject.about["model"], "data": subject.data,
        "threads": machine.threads, "provenance": provenance(plan.seed),
    }  # fmt: skip
    memory = wanted.memory(tier.fields(where, subject.expert_bytes))
    calibration = subject.calibration()
    check_tokens_fit(calibration.model.config, max(plan.sizes), where)
    with Progress(transient=True) as progress:
        task = progress.add_task("calibrating", total=len(plan.sizes) * plan.repetitions)
        table = measure_costs(calibration, subject.k, plan, header, memory, lambda _: progress.advance(task))
    if subject.is_any_layer:
        table = CostTable(any_layer(table.columns), {**subject.about, **table.header})
    table.save(out)
    print(f"{out}: {len(table.columns['tokens'])} batches of {len(plan.sizes)} sizes" + subject.said)


@dataclass(frozen=True)
class Planned:
    """The runs of an execution, and what their policies know and learned from."""

    configs: list[RunConfig]
    lesson: Lesson
    told: Known | None


@app.command("execute")
@grouped
def execute_command(
    trace: Executed, costs: Costs, out: RecordFolder, executed: SubjectOptions, images: ImageOptions,
    queues: QueueOptions, slots: SlotOptions, tier: TierOptions, machine: TorchOptions, known: KnownFrom = None,
    force: Force = False,
) -> None:  # fmt: skip
    """Execute queues of size B on real weights and inputs: closed loops, Poisson loads, lockstep.

    With `--slots` every cache, number of slots, miss handling and prefetcher is executed in the closed loops, beside
    all experts resident: experts lie in host memory and have to come. Let nothing else run. Every run's outputs are
    compared with the plain forward pass under the same selections before its records are written. With `--shape` the
    trace's selections run on layers of a published shape, with weights drawn at random.

    Example: `python -m collect execute --checkpoint m.pt --trace m.trace.parquet --costs costs.parquet --out runs`
    """
    executed.check()
    check_place(out, [executed.checkpoint, trace, costs, file_of(known)], folder=True)
    where, recorded, table = machine.pick(), load_trace(trace), load_costs(costs)
    subject = executed.on(where, images)
    real = subject.on_weights(trace, recorded, costs, table)
    if slots.are_given:
        memories = slots.memories(tier.fields(where, subject.expert_bytes))
        plan = with_slots(queues, slots, memories, recorded, known, subject.k)
    else:
        plan = Planned(queues.resident(recorded, table), lesson_of(recorded, None, ()), None)
    shared = (device_name(where), recorded.digest, table.header["header_digest"])
    headers = {config: header_of(config, shared, plan.told, plan.lesson.trace.digest) for config in plan.configs}
    new = [config for config in plan.configs if is_new(out, config, headers[config], force)]
    for config in track(new, "executing", transient=True):
        real.execute(config, headers[config], plan.told).save(out, config.name)
    print(f"{out}: {len(plan.configs)} runs, {len(new)} of them new" + f"\n{plan.lesson.said}" * bool(plan.lesson.said))


def with_slots(
    queues: QueueOptions, slots: SlotOptions, memories: list[MemoryConfig], recorded: Trace, known: str | None, k: int
) -> Planned:
    """Return the runs with expert slots, beside all experts resident; all serve what nobody learned from."""
    lesson = lesson_of(recorded, known, {need for memory in memories for need in memory.needs})
    sizes, counts = queues.lists()
    experiment = MemoryExperiment(
        tuple(memories), sizes, counts, queues.lockstep or None, queues.replications, slots.sequences
    )
    configs = lesson.shared(experiment.configurations())
    return Planned(configs, lesson, known_of(lesson.trace, k, memories, lesson.mark))


def header_of(config: RunConfig, shared: tuple[str, str, str], told: Known | None, learned_from: str) -> dict:
    """Return the header of one run; `shared` are the device and the digests of trace and costs."""
    header = run_header("executed", config, *shared, provenance(config.seed))
    return header if config.memory is None else header | known_fields(config.memory, told, learned_from)


def is_new(out: Path, config: RunConfig, header: dict, force: bool) -> bool:
    """Say whether a run is still to be executed; InputError where it cannot be, or another one has its name."""
    check_executable(config)
    return not holds_run(out, config.name, run_identity(header), force)
