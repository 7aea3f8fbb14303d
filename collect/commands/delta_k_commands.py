"""Commands of the delta-MoE study."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from moe_replay.collect.commands.app import Device, Epochs, Force, ImageOptions, Jobs, TorchOptions, app
from moe_replay.collect.devices import device_name, pick_device
from moe_replay.collect.studies.delta_k_family import VALIDATION_IMAGES, hold_out, train_family
from moe_replay.collect.studies.delta_k_study import measure_points
from moe_replay.collect.studies.operating_times import measure_times, write_times
from moe_replay.collect.training.classifier_training import TrainingConfig
from moe_replay.traces.command_line.files import write_json
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import is_made, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.operating_points import load_operating_points

Seeds = Annotated[int, COUNT.option(low=1, help="Seeds 0..N-1 of every model.")]
EpochsTrained = Annotated[int, COUNT.option(low=1, help="As the family was trained.")]
Validation = Annotated[int, COUNT.option(low=1, help="Held-out training images.")]


@app.command("family")
@grouped
def family_command(
    models: Annotated[Path, typer.Option(help="Folder for checkpoints; finished and unfinished ones are taken up.")],
    images: ImageOptions,
    seeds: Seeds = 8,
    epochs: Epochs = 6,
    validation: Validation = VALIDATION_IMAGES,
    device: Device = "auto",
    jobs: Jobs = 2,
) -> None:
    """Train the models of the delta-MoE study: fixed k = 1..4, delta and top-p gates, alike in everything else.

    Example: `python -m collect family --data digits --validation 300 --epochs 2 --seeds 2 --models work`
    """
    held = hold_out(images.read(), validation)
    train_family(
        held.images, TrainingConfig(epochs=epochs), list(range(seeds)), models, pick_device(device), jobs,
        lambda line: print(line, flush=True),
    )  # fmt: skip


@app.command("operating-points")
@grouped
def operating_points_command(
    models: Annotated[Path, typer.Option(help="Folder of the family's checkpoints; what is missing is trained first.")],
    out: Annotated[Path, typer.Option(help="File to write: right or wrong and experts used, per sample and point.")],
    images: ImageOptions,
    seeds: Seeds = 8,
    epochs: EpochsTrained = 6,
    validation: Validation = VALIDATION_IMAGES,
    device: Device = "auto",
    jobs: Annotated[int, COUNT.option(low=1, help="Seeds side by side on a CPU, one thread each.")] = 2,
    force: Force = False,
) -> None:
    """Measure fixed and dynamic K sample by sample: rules, thresholds chosen on validation images, controls.

    Example: `python -m collect operating-points --data digits --validation 300 --epochs 2 --seeds 2 --models work
    --out dynamic_k.parquet`
    """
    if is_made(out, [], force):
        return
    held = hold_out(images.read(), validation)
    points = measure_points(
        held, TrainingConfig(epochs=epochs), list(range(seeds)), models, pick_device(device), jobs,
        lambda line: print(line, flush=True),
    )  # fmt: skip
    points.save(out)
    print(f"{out}: {len(points.points)} operating points of {len(points.label_N)} samples")


@app.command("operating-times")
@grouped
def operating_times_command(
    points: Annotated[Path, typer.Option(help="File of operating points; the thresholds come from it.")],
    models: Annotated[Path, typer.Option(help="Folder of the family's checkpoints.")],
    out: Annotated[Path, typer.Option(help="Table to write, CSV: seconds per point and repetition.")],
    images: ImageOptions,
    machine: TorchOptions,
    epochs: EpochsTrained = 6,
    validation: Validation = VALIDATION_IMAGES,
    timed_images: Annotated[int, COUNT.option(low=1, help="Test images of one timed visit.")] = 2048,
    repetitions: Annotated[int, COUNT.option(low=1, help="Visits of every point, in a new order each time.")] = 9,
    force: Force = False,
) -> None:
    """Time the forward pass of every operating point of seed 0, interleaved. Let nothing else run.

    Example: `python -m collect operating-times --data digits --validation 300 --epochs 2 --models work
    --points dynamic_k.parquet --out dynamic_k_times.csv`
    """
    if is_made(out, [points], force):
        return
    held = hold_out(images.read(), validation)
    where = machine.pick()
    with Progress(transient=True) as progress:
        task = progress.add_task("timing", total=repetitions + 1)
        rows = measure_times(
            held, load_operating_points(points), TrainingConfig(epochs=epochs), models, where, timed_images,
            repetitions, lambda _: progress.advance(task),
        )  # fmt: skip
    with staged(out, [points], force) as written:
        write_times(rows, written)
        write_json(written.with_suffix(".json"), {
            "device": device_name(where), "threads": machine.threads, "data": held.images.name,
            "provenance": provenance(0),
        })  # fmt: skip
    print(f"{out}: {len(rows)} visits")
