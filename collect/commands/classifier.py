"""Commands about the classifier: device, train, quality, route, costs, execute. Each parses, reads, calls, writes."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress, track

from collect.calibration import SIZES, CalibrationPlan, measure_costs
from collect.classifier import CONFIGURATIONS, ClassifierConfig
from collect.commands.app import (
    Checkpoint,
    Data,
    DataDir,
    Device,
    TestImages,
    Threads,
    TrainImages,
    app,
    check_belonging,
    read_images,
)
from collect.devices import device_name, on_device, pick_device
from collect.executor import TraceOnWeights
from collect.experiment import QueueSizeExperiment
from collect.quality import measure_quality, write_quality
from collect.training import TrainingConfig, restore, train
from simulate.policies.recording import run_header
from traces import command
from traces.cost_table import load_costs
from traces.errors import unknown_name
from traces.provenance import provenance
from traces.run_records import run_names
from traces.trace_file import load_trace


def configuration(name: str) -> ClassifierConfig:
    """Return a named configuration; an unknown name lists the known ones."""
    if name not in CONFIGURATIONS:
        raise unknown_name("configuration", name, CONFIGURATIONS)
    return CONFIGURATIONS[name]


@app.command("device")
def device_command(
    device: Device = "auto",
    kind: Annotated[bool, typer.Option("--kind", help="Print cpu or cuda instead of the name.")] = False,
) -> None:
    """Print the name under which this device's logs stand.

    Example: `python -m collect device --device cpu`
    """
    where = pick_device(device)
    print(where.type if kind else device_name(where))


@app.command("train")
def train_command(
    out: Annotated[Path, typer.Option(help="Checkpoint to write; an unfinished one of the same training is resumed.")],
    data: Data = "cifar10",
    data_dir: DataDir = None,
    config: Annotated[str, typer.Option(help=f"Model: {', '.join(CONFIGURATIONS)}.")] = "base",
    k: Annotated[int | None, typer.Option(min=1, help="Experts per token; default: the configuration's.")] = None,
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    batch: Annotated[int, typer.Option(min=2)] = 256,
    learning_rate: Annotated[float, typer.Option(min=1e-9)] = 2e-3,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "auto",
    threads: Threads = 1,
    train_images: TrainImages = None,
    test_images: TestImages = None,
) -> None:
    """Train a classifier; a checkpoint after every epoch, resumed when called again.

    Example: `python -m collect train --data digits --epochs 5 --out digits.pt`
    """
    torch.set_num_threads(threads)
    images = read_images(data, data_dir, train_images, test_images)
    chosen = configuration(config)
    train(
        images, replace(chosen, k=k or chosen.k), TrainingConfig(epochs, batch, learning_rate, seed),
        pick_device(device), out, lambda epoch, entry: print(f"epoch {epoch}/{epochs}: {entry}", flush=True),
    )  # fmt: skip


@app.command("quality")
def quality_command(
    out: Annotated[Path, typer.Option(help="Table to write: accuracy per (trained k, evaluated k, seed), CSV.")],
    models: Annotated[Path, typer.Option(help="Folder for checkpoints and finished results; resumes from there.")],
    data: Data = "cifar10",
    data_dir: DataDir = None,
    k: Annotated[str, typer.Option("--k", help="Trained k, with commas.")] = "1,2,3,4,5,6,7,8",
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0..N-1 for every k.")] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = 8,
    device: Device = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Trainings side by side on a CPU, one thread each.")] = 2,
    train_images: TrainImages = None,
    test_images: TestImages = None,
) -> None:
    """Train the base model at every k over several seeds and evaluate; the k = 4 models at every k = 1..16.

    Example: `python -m collect quality --data digits --epochs 3 --models work --out quality.csv`
    """
    images = read_images(data, data_dir, train_images, test_images)
    base = CONFIGURATIONS["base"]
    ks = command.numbers(k, "--k")
    chosen = pick_device(device)
    rows = measure_quality(
        images, base, TrainingConfig(epochs=epochs), ks, list(range(seeds)), models, chosen, jobs,
        lambda line: print(line, flush=True),
    )  # fmt: skip
    write_quality(rows, images, device_name(chosen), out)


@app.command("costs")
def costs_command(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Cost table to write.")],
    data: Data = "cifar10",
    data_dir: DataDir = None,
    sizes: Annotated[str, typer.Option(help="Batch sizes, with commas.")] = ",".join(map(str, SIZES)),
    repetitions: Annotated[int, typer.Option(min=1, help="Visits of every size, in a new order each time.")] = 10,
    device: Device = "auto",
    threads: Threads = 1,
    train_images: TrainImages = None,
    test_images: TestImages = None,
) -> None:
    """Measure what batches cost, inside the executor's own loop, on training images. Let nothing else run.

    Example: `python -m collect costs --checkpoint digits.pt --data digits --out costs.parquet`
    """
    torch.set_num_threads(threads)
    images = read_images(data, data_dir, train_images, test_images)
    model, description = restore(checkpoint, images)
    where = pick_device(device)
    plan = CalibrationPlan(tuple(command.numbers(sizes, "--sizes")), repetitions)
    header = {
        "device": device_name(where), "model": description["model"], "data": images.name, "threads": threads,
        "provenance": provenance(plan.seed),
    }  # fmt: skip
    train_NF = on_device(images.train_NF, where)
    with Progress(transient=True) as progress:
        task = progress.add_task("calibrating", total=len(plan.sizes) * repetitions)
        table = measure_costs(
            model.to(where), train_NF, model.config.k, plan, header, lambda _: progress.advance(task)
        )  # fmt: skip
    table.save(out)
    print(f"{out}: {len(table.columns['tokens'])} batches of {len(plan.sizes)} sizes")


@app.command("execute")
def execute_command(
    checkpoint: Checkpoint,
    trace: Annotated[Path, typer.Option(help="Trace of this model on these test images.")],
    costs: Annotated[Path, typer.Option(help="Cost table of this device: it fixes the rates that loads mean.")],
    out: Annotated[Path, typer.Option(help="Folder for the records; finished runs found there are kept.")],
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
    device: Device = "auto",
    threads: Threads = 1,
    train_images: TrainImages = None,
    test_images: TestImages = None,
) -> None:
    """Execute queues of size B on real weights and images: closed loops, Poisson loads, lockstep.

    Let nothing else run. Every run's outputs are compared with the plain forward pass of the same images before its
    records are written.

    Example: `python -m collect execute --checkpoint m.pt --trace m.trace.parquet --costs costs.parquet --out runs`
    """
    torch.set_num_threads(threads)
    images = read_images(data, data_dir, train_images, test_images)
    model, _ = restore(checkpoint, images)
    where, recorded, table = pick_device(device), load_trace(trace), load_costs(costs)
    check_belonging(trace, recorded, costs, table, images, where)
    experiment = QueueSizeExperiment(
        tuple(command.numbers(queue_size, "--queue-size")), tuple(command.numbers(load, "--load", 1e-6, float)),
        tuple(command.numbers(in_flight, "--in-flight")), lockstep or None, replications, batches_per_queue,
        least_passes,
    )  # fmt: skip
    plan = experiment.configurations(table, recorded.header.model.used_k, recorded.L, recorded.E)
    done = set(run_names(out)) if out.is_dir() else set()
    real = TraceOnWeights(model.to(where), recorded, on_device(images.test_NF, where))
    for config in track([config for config in plan if config.name not in done], "executing", transient=True):
        header = run_header(
            "executed", config, device_name(where), recorded.digest, table.header["header_digest"],
            provenance(config.seed),
        )  # fmt: skip
        real.execute(config, header).save(out, config.name)
    print(f"{out}: {len(plan)} runs, {sum(config.name not in done for config in plan)} of them new")
