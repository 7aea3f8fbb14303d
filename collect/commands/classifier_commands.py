"""Commands about the classifier: device, train, quality, route, costs, execute. Each parses, reads, calls, writes."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.collect.commands.app import Device, Epochs, Force, ImageOptions, Jobs, TorchOptions, app
from moe_replay.collect.devices import device_name, pick_device
from moe_replay.collect.models.classifier import CONFIGURATIONS, ClassifierConfig
from moe_replay.collect.studies.accuracy_vs_k_study import measure_quality, write_quality
from moe_replay.collect.training.classifier_training import TrainingConfig, train
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place, is_made, staged
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import unknown_name


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
    """Print the name of the folder that holds this device's logs.

    Example: `python -m collect device --device cpu`
    """
    where = pick_device(device)
    print(where.type if kind else device_name(where))


@app.command("train")
@grouped
def train_command(
    out: Annotated[Path, typer.Option(help="Checkpoint to write; an unfinished one of the same training is resumed.")],
    images: ImageOptions,
    machine: TorchOptions,
    config: Annotated[str, typer.Option(help=f"Model: {', '.join(CONFIGURATIONS)}.")] = "base",
    k: Annotated[int | None, COUNT.option(low=1, help="Experts per token; default: the configuration's.")] = None,
    epochs: Epochs = 8,
    batch: Annotated[int, COUNT.option(low=2)] = 256,
    learning_rate: Annotated[float, typer.Option(min=1e-9)] = 2e-3,
    seed: Annotated[int, COUNT.option(low=0)] = 0,
) -> None:
    """Train a classifier; a checkpoint after every epoch, resumed when called again.

    Example: `python -m collect train --data digits --epochs 5 --out digits.pt`
    """
    check_place(out)
    chosen, where = configuration(config), machine.pick()
    train(
        images.read(), replace(chosen, k=k or chosen.k), TrainingConfig(epochs, batch, learning_rate, seed),
        where, out, lambda epoch, entry: print(f"epoch {epoch}/{epochs}: {entry}", flush=True),
    )  # fmt: skip


@app.command("quality")
@grouped
def quality_command(
    out: Annotated[Path, typer.Option(help="Table to write: accuracy per (trained k, evaluated k, seed), CSV.")],
    models: Annotated[Path, typer.Option(help="Folder for checkpoints and finished results; resumes from there.")],
    images: ImageOptions,
    k: Annotated[str, typer.Option("--k", help="Trained k, with commas.")] = "1,2,3,4,5,6,7,8",
    seeds: Annotated[int, COUNT.option(low=1, help="Seeds 0..N-1 for every k.")] = 3,
    epochs: Epochs = 8,
    device: Device = "auto",
    jobs: Jobs = 2,
    force: Force = False,
) -> None:
    """Train the base model at every k over several seeds and evaluate; the k = 4 models at every k = 1..16.

    Example: `python -m collect quality --data digits --epochs 3 --models work --out quality.csv`
    """
    if is_made(out, [], force):
        return
    taken = images.read()
    base = CONFIGURATIONS["base"]
    ks = command.numbers(k, "--k")
    chosen = pick_device(device)
    rows = measure_quality(
        taken, base, TrainingConfig(epochs=epochs), ks, list(range(seeds)), models, chosen, jobs,
        lambda line: print(line, flush=True),
    )  # fmt: skip
    with staged(out, force=force) as written:
        write_quality(rows, taken, device_name(chosen), written)
