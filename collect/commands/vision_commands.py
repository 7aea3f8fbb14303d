"""Commands about vision transformers: train one, train all of a comparison, measure their times."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from moe_replay.collect.commands.app import Device, Epochs, Force, ImageOptions, Jobs, app
from moe_replay.collect.datasets.images import Images
from moe_replay.collect.devices import device_name, pick_device
from moe_replay.collect.models.vision_transformer import VARIANTS, VisionConfig
from moe_replay.collect.recording.clip_recording import switch_model_info
from moe_replay.collect.recording.load_options import Balance, LoadOptions
from moe_replay.collect.studies.vision_grid import contenders, summary, tables_of, train_all
from moe_replay.collect.studies.vision_times import inference_seconds, measure_times
from moe_replay.collect.training import processes
from moe_replay.collect.training.checkpoints import load_checkpoint
from moe_replay.collect.training.vision_training import VisionTraining, describe, new_vision_model, train_vision
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, check_place, is_by_this_command, is_made, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, PERCENT
from moe_replay.traces.errors import InputError

Threshold = Annotated[float, PERCENT.option(low=0, high=100, help="Accuracy (%) whose first epoch is reported.")]
Variants = Annotated[str, typer.Option(help=f"VARIANT[:EXPERTS[:consistency]], with commas; {', '.join(VARIANTS)}.")]
Models = Annotated[Path, typer.Option(help="Folder of checkpoints; finished and unfinished trainings are taken up.")]
COMPARED = "dense,switch:4,switch:8,random:4,random:8"


@dataclass(frozen=True)
class SizeOptions:
    """The sizes of a transformer, whatever its feed-forward part."""

    width: Annotated[int, COUNT.option(low=1, help="Width of a token.")] = 64
    hidden: Annotated[int, COUNT.option(low=1, help="Hidden units of a perceptron (of each expert).")] = 128
    depth: Annotated[int, COUNT.option(low=1, help="Blocks of attention and feed-forward.")] = 4
    heads: Annotated[int, COUNT.option(low=1, help="Attention heads; divide the width.")] = 4
    patch: Annotated[int, COUNT.option(low=1, help="Pixels of a patch's side; divide the image.")] = 8

    def config(self, variant: str, experts: int) -> VisionConfig:
        """Return the configuration of a variant."""
        return VisionConfig(variant, experts, self.width, self.hidden, self.depth, self.heads, self.patch)


@dataclass(frozen=True)
class StepOptions:
    """How long and how fast is trained."""

    batch: Annotated[int, COUNT.option(low=1, help="Images per step, over all processes.")] = 128
    epochs: Epochs = 10
    learning_rate: Annotated[float, typer.Option(min=1e-9, help="Largest learning rate.")] = 2e-3


@dataclass(frozen=True)
class VariantOptions:
    """Which variant is trained, and how it is routed in training."""

    variant: Annotated[str, typer.Option(help=f"Feed-forward part: {', '.join(VARIANTS)}.")] = "dense"
    experts: Annotated[int, COUNT.option(low=1, help="Experts per layer; dense has 1.")] = 1
    consistency: Annotated[bool, typer.Option("--consistency", help="Random routing: AdaMix's two passes.")] = False
    seed: Annotated[int, COUNT.option(low=0)] = 0
    balance: Balance = 0.01

    def config(self, sizes: SizeOptions) -> VisionConfig:
        """Return the configuration."""
        return replace(sizes.config(self.variant, self.experts), w_balance=self.balance)

    def training(self, steps: StepOptions) -> VisionTraining:
        """Return the training."""
        return VisionTraining(steps.epochs, steps.batch, steps.learning_rate, self.seed, consistency=self.consistency)


@app.command("vision")
@grouped
def vision_command(
    out: Annotated[
        Path, typer.Option(help="Checkpoint MODEL.pt; results go to MODEL.json. An unfinished one is resumed.")
    ],
    images: ImageOptions,
    chosen: VariantOptions,
    sizes: SizeOptions,
    steps: StepOptions,
    recorded: LoadOptions,
    gpus: Annotated[int, COUNT.option(low=1, help="Processes, one GPU each; on a CPU, processes of one thread.")] = 1,
    device: Device = "auto",
    threshold: Threshold = 45.0,
    force: Force = False,
) -> None:
    """Train one vision transformer; a checkpoint after every epoch, resumed when called again; prints its results.

    Random routing is evaluated with its experts' weights averaged into one. `--gpus N` runs this command in N processes
    through torch.distributed.run; under torchrun it joins them.

    Example: `python -m collect vision --data digits --patch 2 --variant switch --experts 4 --epochs 5 --out switch.pt`
    """
    torch.set_num_threads(1)
    check_place(out)
    check_output(out.with_suffix(".json"), [], force)
    config, training = chosen.config(sizes), chosen.training(steps)
    training.check(config, gpus)
    check_counted(recorded, config, gpus)
    where = pick_device(device)
    processes.check_count(gpus, where)
    taken = images.read()
    if gpus > 1 and not processes.launched():
        check_plan(taken, config, training, out)
        raise typer.Exit(processes.launch(gpus))
    train_here(taken, config, training, where, out, threshold, force, recorded)


def train_here(
    images: Images, config: VisionConfig, training: VisionTraining, where: torch.device, out: Path, threshold: float,
    force: bool, recorded: LoadOptions,
) -> None:  # fmt: skip
    """Train in this process, alone or with those beside it; the first of them reports."""
    place = processes.join(where) if processes.launched() else processes.alone(where)
    counter = recorded.counter([out])
    try:
        model, about = train_vision(
            images, config, training, place, out,
            lambda epoch, entry: print(f"epoch {epoch}/{training.epochs}: {entry}", flush=True), counter,
        )  # fmt: skip
    finally:
        processes.leave()
    if place.first:
        report(model, about, images, out, threshold, device_name(place.device), force)
    if counter:
        recorded.write(counter, switch_model_info(model, images.name), images.about, about)


def check_counted(recorded: LoadOptions, config: VisionConfig, gpus: int) -> None:
    """Refuse to count the loads of a model whose gates select nothing, or of one process among several."""
    if recorded.record_loads is not None and config.variant != "switch":
        raise InputError(f"--record-loads: variant {config.variant} has no gate that learns, allowed: switch")
    if recorded.record_loads is not None and gpus > 1:
        raise InputError(f"--record-loads: counts the loads of one process, --gpus is {gpus}; allowed: 1")


def check_plan(images: Images, config: VisionConfig, training: VisionTraining, out: Path) -> None:
    """Refuse here, in one line, what every launched process would refuse again."""
    new_vision_model(images.first(1, 1), config, 0)
    if out.exists():
        load_checkpoint(out, describe(images, config, training))


def report(
    model: torch.nn.Module, about: dict, images: Images, out: Path, threshold: float, device: str, force: bool
) -> None:
    """Print the results of one training and write them beside its checkpoint."""
    seconds, measured = inference_seconds(model, images)
    row = {
        "variant": about["model"]["variant"], "experts": about["model"]["experts"],
        **summary(model, about["history"], threshold),
        "inference_60000_images_s": round(seconds, 3), "inference_measured_images": measured,
    }  # fmt: skip
    with staged(out.with_suffix(".json"), [], force, is_ours=is_by_this_command) as written:
        write_json(written, {
            "results": row, "history": about["history"], "device": device,
            "data": images.about,
            "provenance": provenance(about["training"]["seed"]),
        })  # fmt: skip
    table = Table("result", "value", box=None)
    for name, value in row.items():
        table.add_row(name, str(value))
    Console().print(table)


@app.command("vision-grid")
@grouped
def vision_grid_command(
    out: Annotated[Path, typer.Option(help="Table to write: a row per model. OUT_epochs.csv and OUT.json beside it.")],
    models: Models,
    images: ImageOptions,
    sizes: SizeOptions,
    steps: StepOptions,
    variants: Variants = COMPARED,
    seeds: Annotated[int, COUNT.option(low=1, help="Seeds 0..N-1 of every model.")] = 2,
    threshold: Threshold = 45.0,
    device: Device = "auto",
    jobs: Jobs = 2,
    force: Force = False,
) -> None:
    """Train vision transformers of several variants with several seeds; resumes; writes the tables of a comparison.

    Example: `python -m collect vision-grid --data digits --patch 2 --epochs 2 --models work --out vision.csv`
    """
    if is_made(out, [], force):
        return
    taken, base = images.read(), sizes.config("dense", 1)
    training = VisionTraining(steps.epochs, steps.batch, steps.learning_rate)
    entries, where = contenders(variants, base), pick_device(device)
    source = provenance()  # before hours of training: the revision that trained
    points = train_all(
        taken, entries, training, list(range(seeds)), models, where, jobs, lambda line: print(line, flush=True)
    )
    rows, per_epoch = tables_of(taken, points, training, models, threshold)
    with staged(out, [], force) as written:
        write_rows(written, rows)
        write_rows(written.with_name(f"{out.stem}_epochs.csv"), per_epoch)
        write_json(written.with_suffix(".json"), {
            "device": device_name(where), "data": taken.about,
            "model": asdict(base), "training": asdict(training), "provenance": source,
        })  # fmt: skip


@app.command("vision-times")
@grouped
def vision_times_command(
    out: Annotated[Path, typer.Option(help="Table to write: a row per configuration, repetition and kind.")],
    models: Models,
    images: ImageOptions,
    steps: StepOptions,
    variants: Variants = COMPARED,
    repetitions: Annotated[int, COUNT.option(low=1, help="Visits of every model, after one that warms up.")] = 5,
    training_images: Annotated[int, COUNT.option(low=1, help="Images per timed training pass.")] = 5120,
    inference_images: Annotated[int, COUNT.option(low=1, help="Images per timed inference.")] = 60000,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Measure training and inference time of the models of `vision-grid` (seed 0), interleaved. Let nothing else run.

    The table says how many images each time is of; a time of fewer than asked for is scaled up by the analysis.

    Example: `python -m collect vision-times --data digits --epochs 2 --models work --out vision_times.csv`
    """
    torch.set_num_threads(1)
    if is_made(out, [], force):
        return
    taken = images.read()
    where = pick_device(device)
    entries = contenders(variants, VisionConfig())
    training = VisionTraining(steps.epochs, steps.batch, steps.learning_rate)
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=2 * len(entries) * (repetitions + 1))
        rows = measure_times(
            taken, entries, training, models, where, repetitions, training_images, inference_images,
            lambda: progress.advance(task),
        )  # fmt: skip
    with staged(out, [], force) as written:
        write_rows(written, rows)
        write_json(written.with_suffix(".json"), {
            "device": device_name(where), "data": taken.about, "threads": 1, "batch": steps.batch,
            "provenance": provenance(),
        })  # fmt: skip
