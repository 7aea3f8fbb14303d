"""Commands about what absent or damaged experts cost in quality: swap-quality, skip-exchange."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress

from moe_replay.collect.commands.app import Checkpoint, Force, ImageOptions, TorchOptions, app
from moe_replay.collect.commands.language_commands import corpus_of
from moe_replay.collect.datasets.text_corpus import Corpus
from moe_replay.collect.devices import device_name
from moe_replay.collect.studies.masked_quality import (
    HANDLINGS,
    STATIC,
    MaskedPlan,
    altered_rows,
    masked_rows,
    scored,
    summary,
    way_row,
)
from moe_replay.collect.studies.quality_probes import ClassifierProbe, LanguageProbe, Probe
from moe_replay.collect.training.checkpoints import load_checkpoint
from moe_replay.collect.training.classifier_training import restore
from moe_replay.collect.training.language_training import KIND as LANGUAGE
from moe_replay.collect.training.language_training import restore_language
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import is_made, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, SHARE
from moe_replay.traces.errors import InputError, unknown_name

Out = Annotated[Path, typer.Option(help="Table to write, CSV; OUT.json beside it.")]
Units = Annotated[int, COUNT.option(low=2, help="Held-out windows of a language model, test images of a classifier.")]
Stretch = Annotated[int, COUNT.option(low=1, help="Language model: windows of one domain that follow each other.")]


@dataclass(frozen=True)
class Measured:
    """A probe of a trained model and what describes it. `corpus` is a language model's."""

    probe: Probe
    renormalised: bool
    about: dict
    corpus: Corpus | None


def measured(checkpoint: Path, chosen: ImageOptions, units: int, stretch: int, where: torch.device) -> Measured:
    """Return the probe of a checkpoint; InputError where its data is not what it was trained on."""
    described = load_checkpoint(checkpoint)["description"]
    about = {"device": device_name(where), "model": described["model"], "units": units, "provenance": provenance()}
    if described.get("kind") == LANGUAGE:
        corpus = corpus_of(None, chosen.data_dir)
        model, _ = restore_language(checkpoint, corpus)
        probe = LanguageProbe(model.to(where), corpus, units, stretch)
        text = {"name": "text", "digest": corpus.digest, "stretch": stretch, **corpus.about()}
        return Measured(probe, True, {**about, "data": text, **sizes(model)}, corpus)
    images = chosen.read()
    model, _ = restore(checkpoint, images)
    probe = ClassifierProbe(model.to(where), images, units, where)
    renormalised = all(getattr(gate, "renormalised", True) for gate in model.gates)
    return Measured(
        probe, renormalised, {**about, "data": {"name": images.name, "digest": images.digest}, **sizes(model)}, None
    )


def write_measured(out: Path, rows: list[dict], about: dict, inputs: list[Path | None], force: bool) -> None:
    """Write a table of measurements, and beside it what they were made from and how."""
    with staged(out, inputs, force) as written:
        write_rows(written, rows)
        write_json(written.with_suffix(".json"), about)


def sizes(model: torch.nn.Module) -> dict:
    """Return the bytes of one expert, of all experts and of everything, and how many experts there are."""
    expert_bytes, config = model.experts[0].expert_bytes, model.config
    return {
        "expert_bytes": expert_bytes, "layers": config.layers, "experts": config.experts, "k": config.k,
        "model_bytes": sum(each.nbytes for each in model.parameters()),
    }  # fmt: skip


@dataclass(frozen=True)
class ResidentOptions:
    """Which experts are resident, and what happens where others are chosen."""

    slots: Annotated[str, typer.Option(help="Experts of a layer that are resident, with commas.")] = "4,8,16,24"
    period: Annotated[str, typer.Option(help="SwapMoE: units between new residents, with commas.")] = "1,8,64"
    miss: Annotated[str, typer.Option(help=f"{', '.join(HANDLINGS)}, with commas.")] = ",".join(HANDLINGS)
    random_keeps: Annotated[int, COUNT.option(low=0, help="How many random choices of residents.")] = 3

    def plan(self) -> MaskedPlan:
        """Return the plan; InputError for another handling, and for what is no list of numbers."""
        handlings = tuple(self.miss.split(","))
        for name in handlings:
            if name not in HANDLINGS:
                raise unknown_name("handling", name, HANDLINGS)
        slots, periods = command.numbers(self.slots, "--slots"), command.numbers(self.period, "--period")
        return MaskedPlan(tuple(slots), tuple(periods), handlings, self.random_keeps)


@app.command("swap-quality")
@grouped
def swap_quality_command(
    checkpoint: Checkpoint,
    out: Out,
    images: ImageOptions,
    machine: TorchOptions,
    resident: ResidentOptions,
    dense: Annotated[Path | None, typer.Option(help="Language model with one expert, measured beside.")] = None,
    units: Units = 240,
    stretch: Stretch = 20,
    force: Force = False,
) -> None:
    """Measure the quality of a model of which only some experts are resident, by how they were chosen.

    Every row says how much worse the model is than with all its experts, on the same windows or images.

    Example: `python -m collect swap-quality --checkpoint wide.pt --slots 8,16 --period 64 --units 2000 --out swap.csv`
    """
    if is_made(out, [checkpoint, dense], force):
        return
    plan, where = resident.plan(), machine.pick()
    found = measured(checkpoint, images, units, stretch, where)
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=plan.ways)
        rows = masked_rows(found.probe, found.renormalised, plan, lambda: progress.advance(task))
    about = found.about
    if dense is not None:
        row, size = dense_row(dense, found, units, stretch, where)
        rows.append(row)
        about = {**about, "dense": size}
    write_measured(out, rows, about, [checkpoint, dense], force)
    print(f"{out}: {len(rows)} rows; residents: {', '.join(STATIC)}, random, swapmoe")


def dense_row(
    path: Path, found: Measured, units: int, stretch: int, where: torch.device
) -> tuple[dict, dict]:  # fmt: skip
    """Return the row of a dense language model on the same windows, and its sizes."""
    if found.corpus is None:
        raise InputError("--dense: allowed beside a language model")
    model, _ = restore_language(path, found.corpus)
    if model.config.experts != 1:
        raise InputError(f"{path}: has {model.config.experts} experts per layer, allowed 1 (dense)")
    if model.config.window != found.probe.model.config.window:
        raise InputError(f"{path}: its window is {model.config.window}, allowed that of the other model")
    probe = LanguageProbe(model.to(where), found.corpus, units, stretch)
    return way_row("dense", summary(probe, scored(probe, None), scored(found.probe, None))), sizes(model)


@app.command("skip-exchange")
@grouped
def skip_exchange_command(
    checkpoint: Checkpoint,
    out: Out,
    images: ImageOptions,
    machine: TorchOptions,
    share: Annotated[float, SHARE.option(low=0, high=1, help="Share of a layer's experts that is treated.")] = 0.5,
    seeds: Annotated[int, COUNT.option(low=1, help="Random choices of the treated experts.")] = 5,
    units: Units = 240,
    stretch: Stretch = 20,
    force: Force = False,
) -> None:
    """Skip half of the experts, or let them run in each other's place: in the first layer, and in all layers.

    Example: `python -m collect skip-exchange --checkpoint wide.pt --units 2000 --out skip-exchange.csv`
    """
    if is_made(out, [checkpoint], force):
        return
    where = machine.pick()
    found = measured(checkpoint, images, units, stretch, where)
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=1 + 4 * seeds)
        rows = altered_rows(found.probe, found.renormalised, share, seeds, lambda: progress.advance(task))
    write_measured(out, rows, found.about, [checkpoint], force)
    print(f"{out}: {len(rows)} rows")
