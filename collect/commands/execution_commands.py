"""Commands that run models under the rules of `simulate.policies`: costs and execute. They parse, read, call, write."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress, track

from moe_replay.collect.commands.app import Data, DataDir, Device, Force, TestImages, Threads, TrainImages, app
from moe_replay.collect.commands.measured_subjects import (
    CheckpointOrShape,
    Layers,
    Scale,
    Shape,
    check_subject,
    chosen_subject,
)
from moe_replay.collect.devices import device_name, pick_device
from moe_replay.collect.execution.calibration import SIZES, CalibrationPlan, measure_costs
from moe_replay.collect.execution.executor import EXECUTABLE, check_executable
from moe_replay.collect.execution.experiment import MemoryExperiment, QueueSizeExperiment
from moe_replay.collect.execution.slow_tier import link_fields
from moe_replay.simulate.config.memory_config import MASKED, MemoryConfig
from moe_replay.simulate.config.memory_grid import MemoryGrid
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.memory.expert_worth import known_of
from moe_replay.simulate.policies.memory.knowledge_source import HELP, file_of, known_fields, lesson_of
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.outputs import check_place, is_made
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.runs.cost_table import load_costs
from moe_replay.traces.runs.run_records import holds_run, run_identity

Slots = Annotated[str | None, typer.Option(help="Expert slots per layer, with commas; default: all are resident.")]
Bandwidth = Annotated[
    float | None,
    typer.Option(min=1e-9, help="Slots: GB/s of the slow tier, on a CPU its pace (0.25), on a GPU a name (64)."),
]
Latency = Annotated[
    float | None, typer.Option(min=0, help="Slots: least us of a transfer beside its bytes, likewise (100; 10).")
]


@app.command("costs")
def costs_command(
    out: Annotated[Path, typer.Option(help="Cost table to write.")],
    checkpoint: CheckpointOrShape = None,
    shape: Shape = None,
    scale: Scale = None,
    layers: Layers = None,
    data: Data = "cifar10",
    data_dir: DataDir = None,
    sizes: Annotated[str, typer.Option(help="Batch sizes, with commas.")] = ",".join(map(str, SIZES)),
    repetitions: Annotated[int, typer.Option(min=1, help="Visits of every size, in a new order each time.")] = 10,
    slots: Slots = None,
    miss: Annotated[str, typer.Option(help=f"Slots: {', '.join(EXECUTABLE)}.")] = "load",
    bandwidth: Bandwidth = None,
    latency_us: Latency = None,
    device: Device = "auto",
    threads: Threads = 1,
    train_images: TrainImages = None,
    test_images: TestImages = None,
    force: Force = False,
) -> None:
    """Measure what batches cost, inside the executor's own loop, on inputs of no run. Let nothing else run.

    With `--slots C` experts lie in the slow tier and C of a layer on the device, and what a transfer takes is measured
    too. Loading, masked gating and all experts resident need a table each: blocks do not cost the same under them.

    Example: `python -m collect costs --checkpoint digits.pt --data digits --out costs.parquet`
    """
    torch.set_num_threads(threads)
    check_subject(checkpoint, shape, scale, layers)
    if is_made(out, [checkpoint], force):
        return
    where, of_shape = pick_device(device), (shape, scale, layers)
    subject = chosen_subject(checkpoint, of_shape, data, data_dir, train_images, test_images, where)
    plan = CalibrationPlan(tuple(command.numbers(sizes, "--sizes")), repetitions)
    header = {
        "device": device_name(where), "model": subject.about["model"], "data": subject.data, "threads": threads,
        "provenance": provenance(plan.seed),
    }  # fmt: skip
    memory = None
    if miss not in EXECUTABLE:
        raise unknown_name("miss handling", miss, EXECUTABLE)
    if slots is not None:
        memory = MemoryConfig(
            cache="random", slots=command.numbers(slots, "--slots")[0], miss=miss, filled=miss in MASKED,
            **link_fields(where, bandwidth, latency_us, subject.expert_bytes),
        )  # fmt: skip
    with Progress(transient=True) as progress:
        task = progress.add_task("calibrating", total=len(plan.sizes) * repetitions)
        table = measure_costs(
            subject.calibration(), subject.k, plan, header, memory, lambda _: progress.advance(task)
        )  # fmt: skip
    table.save(out)
    print(f"{out}: {len(table.columns['tokens'])} batches of {len(plan.sizes)} sizes")


def numbers_of_slots(slots: str | None, layer_slots: str | None) -> list[int | tuple[int, ...]]:
    """Return the numbers of slots of two options; InputError where both are given."""
    if slots is not None and layer_slots is not None:
        raise InputError("--slots and --layer-slots: allowed one of them")
    if layer_slots is not None:
        return [tuple(command.numbers(layer_slots, "--layer-slots"))]
    return command.numbers(slots, "--slots")


@app.command("execute")
def execute_command(
    trace: Annotated[
        Path, typer.Option(help="Trace of this model on these inputs; for a --shape any of as many layers and experts.")
    ],
    costs: Annotated[Path, typer.Option(help="Cost table of this device: it fixes the rates that loads mean.")],
    out: Annotated[Path, typer.Option(help="Folder for the records; finished runs found there are kept.")],
    checkpoint: CheckpointOrShape = None,
    shape: Shape = None,
    scale: Scale = None,
    layers: Layers = None,
    data: Data = "cifar10",
    data_dir: DataDir = None,
    queue_size: Annotated[str, typer.Option(help="Queue sizes B, with commas.")] = "1,2,4,8,16,32,64,128",
    load: Annotated[
        str, typer.Option(help="Poisson loads as shares of the capacity at the largest B.")
    ] = "0.3,0.6,0.9",
    in_flight: Annotated[str, typer.Option(help="Closed loops: sequences in flight.")] = "32,256,2048",
    lockstep: Annotated[int, typer.Option(min=0, help="Most passes in a step of lockstep; 0 leaves it out.")] = 512,
    replications: Annotated[int, typer.Option(min=1, help="Replication i permutes and draws by seed i.")] = 3,
    batches_per_queue: Annotated[int, typer.Option(min=1, help="Full batches per mean queue that are measured.")] = 50,
    least_passes: Annotated[int, typer.Option(min=1, help="Passes of the shortest runs.")] = 600,
    slots: Slots = None,
    layer_slots: Annotated[
        str | None, typer.Option(help="Instead of --slots: one number of slots for every layer, with commas.")
    ] = None,
    cache: Annotated[str, typer.Option(help=f"Slots: {CACHES.choices}; with commas.")] = "lru",
    miss: Annotated[str, typer.Option(help=f"Slots: {', '.join(EXECUTABLE)}; with commas.")] = "load",
    prefetch: Annotated[str, typer.Option(help=f"Slots: {PREFETCHERS.choices}; with commas.")] = "none",
    period: Annotated[
        str | None, typer.Option(help="Slots, importance: passes between new residents; with commas.")
    ] = None,
    filled: Annotated[bool, typer.Option("--filled", help="Slots: start with the most popular experts.")] = False,
    bandwidth: Bandwidth = None,
    latency_us: Latency = None,
    sequences: Annotated[int | None, typer.Option(min=1, help="Slots: sequences served; default each once.")] = None,
    known: Annotated[
        str | None, typer.Option(metavar="TRACE|hindsight", help=HELP.replace("TRACE", "--trace", 1))
    ] = None,
    device: Device = "auto",
    threads: Threads = 1,
    train_images: TrainImages = None,
    test_images: TestImages = None,
    force: Force = False,
) -> None:
    """Execute queues of size B on real weights and inputs: closed loops, Poisson loads, lockstep.

    With `--slots` every cache, number of slots, miss handling and prefetcher is executed in the closed loops, beside
    all experts resident: experts lie in host memory and have to come. Let nothing else run. Every run's outputs are
    compared with the plain forward pass under the same selections before its records are written. With `--shape` the
    trace's selections run on layers of a published shape, with weights drawn at random.

    Example: `python -m collect execute --checkpoint m.pt --trace m.trace.parquet --costs costs.parquet --out runs`
    """
    torch.set_num_threads(threads)
    check_subject(checkpoint, shape, scale, layers)
    check_place(out, [checkpoint, trace, costs, file_of(known)], folder=True)
    where, recorded, table = pick_device(device), load_trace(trace), load_costs(costs)
    of_shape = shape, scale, layers
    subject = chosen_subject(checkpoint, of_shape, data, data_dir, train_images, test_images, where)
    real = subject.on_weights(trace, recorded, costs, table)
    sizes, counts = tuple(command.numbers(queue_size, "--queue-size")), tuple(command.numbers(in_flight, "--in-flight"))
    if slots is None and layer_slots is None:
        experiment = QueueSizeExperiment(
            sizes, tuple(command.numbers(load, "--load", 1e-6, float)), counts, lockstep or None, replications,
            batches_per_queue, least_passes,
        )  # fmt: skip
        k, long = recorded.header.model.used_k, recorded.T / len(recorded.sequences_S)
        plan, told = experiment.configurations(table, k, recorded.L, recorded.E, long), None
        lesson = lesson_of(recorded, None, ())
    else:
        grid = MemoryGrid(
            caches=cache.split(","), slots=numbers_of_slots(slots, layer_slots), misses=miss.split(","),
            prefetchers=prefetch.split(","), periods=command.numbers(period, "--period") if period else [None],
            fixed={"filled": filled, **link_fields(where, bandwidth, latency_us, subject.expert_bytes)},
        )  # fmt: skip
        memories = grid.memories()
        lesson = lesson_of(recorded, known, {need for memory in memories for need in memory.needs})
        experiment = MemoryExperiment(tuple(memories), sizes, counts, lockstep or None, replications, sequences)
        plan = lesson.shared(experiment.configurations())
        told = known_of(lesson.trace, subject.k, memories, lesson.mark)
    shared = (device_name(where), recorded.digest, table.header["header_digest"])
    headers = {config: header_of(config, shared, told, lesson.trace.digest) for config in plan}
    new = [config for config in plan if is_new(out, config, headers[config], force)]
    for config in track(new, "executing", transient=True):
        real.execute(config, headers[config], told).save(out, config.name)
    print(f"{out}: {len(plan)} runs, {len(new)} of them new" + f"\n{lesson.said}" * bool(lesson.said))


def header_of(config: RunConfig, shared: tuple[str, str, str], told: Known | None, learned_from: str) -> dict:
    """Return the header of one run; `shared` are the device and the digests of trace and costs."""
    header = run_header("executed", config, *shared, provenance(config.seed))
    return header if config.memory is None else header | known_fields(config.memory, told, learned_from)


def is_new(out: Path, config: RunConfig, header: dict, force: bool) -> bool:
    """Say whether a run is still to be executed; InputError where it cannot be, or another one has its name."""
    check_executable(config)
    return not holds_run(out, config.name, run_identity(header), force)
