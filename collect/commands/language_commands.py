"""Commands about the byte-level language model: language, language-quality, language-route."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from moe_replay.collect.commands.app import Checkpoint, Force, ScoreBits, TorchOptions, app
from moe_replay.collect.datasets.text_corpus import Corpus, read_corpus
from moe_replay.collect.datasets.text_sources import SOURCES
from moe_replay.collect.devices import device_name
from moe_replay.collect.models.language_model import LanguageConfig
from moe_replay.collect.recording.continuous_batching import draw_requests
from moe_replay.collect.recording.language_recording import (
    Recorder,
    language_header,
    language_model_info,
    record_decode,
    record_prefill,
)
from moe_replay.collect.recording.load_options import Balance, LoadOptions
from moe_replay.collect.recording.score_rounding import FULL_PRECISION
from moe_replay.collect.studies.language_quality import measure_bits
from moe_replay.collect.training.language_training import LanguageTraining, restore_language, train_language
from moe_replay.collect.training.training_pace import steps_within
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place, is_made, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, SECONDS
from moe_replay.traces.errors import InputError, unknown_name

Domains = Annotated[
    str | None, typer.Option(help=f"{', '.join(SOURCES)}, with commas; default: those that this machine has.")
]
TextDir = Annotated[Path | None, typer.Option("--data-dir", help="Folder with docs/, novels/; else MOE_REPLAY_DATA.")]
PRECISIONS = ("highest", "high", "medium")
PHASES = ("prefill", "stepwise", "decode")


def corpus_of(domains: str | None, data_dir: Path | None) -> Corpus:
    """Return the corpus and say on standard error which domains this machine lacks."""
    corpus = read_corpus(domains.split(",") if domains else None, data_dir)
    for name, why in corpus.absent.items():
        Console(stderr=True).print(f"collect: domain {name} is left out: {why}")
    return corpus


@dataclass(frozen=True)
class TextOptions:
    """Which text a command takes."""

    domains: Domains = None
    data_dir: TextDir = None

    def read(self) -> Corpus:
        """Return the corpus and say on standard error which domains this machine lacks."""
        return corpus_of(self.domains, self.data_dir)


@dataclass(frozen=True)
class ModelOptions:
    """The sizes of a language model."""

    layers: Annotated[int, COUNT.option(low=1)] = 8
    experts: Annotated[int, COUNT.option(low=1, help="Experts per layer.")] = 32
    k: Annotated[int, COUNT.option(low=1, help="Experts per byte and layer.")] = 4
    width: Annotated[int, COUNT.option(low=2, help="Width of a token.")] = 128
    hidden: Annotated[int, COUNT.option(low=1, help="Hidden units of each expert.")] = 128
    heads: Annotated[int, COUNT.option(low=1, help="Attention heads.")] = 4
    window: Annotated[int, COUNT.option(low=2, help="Longest sequence, bytes.")] = 256
    balance: Balance = 0.01

    def config(self) -> LanguageConfig:
        """Return the configuration."""
        return LanguageConfig(
            self.layers, self.experts, self.k, self.width, self.hidden, self.heads, self.window, self.balance
        )


@dataclass(frozen=True)
class StepOptions:
    """How long, how fast and how precisely is trained."""

    steps: Annotated[int, COUNT.option(low=1)] = 9000
    seconds: Annotated[
        float | None, SECONDS.option(low=1, help="Instead of --steps: as many as fit, by the pace of the first.")
    ] = None
    batch: Annotated[int, COUNT.option(low=1, help="Windows per step.")] = 8
    learning_rate: Annotated[float, typer.Option(min=1e-9)] = 2e-3
    seed: Annotated[int, COUNT.option(low=0)] = 0
    precision: Annotated[
        str, typer.Option(help=f"Of matrix products: {', '.join(PRECISIONS)}; high is TF32 on a GPU.")
    ] = "highest"

    def set_precision(self) -> None:
        """Let torch compute so precisely; InputError for another word."""
        if self.precision not in PRECISIONS:
            raise unknown_name("precision", self.precision, PRECISIONS)
        torch.set_float32_matmul_precision(self.precision)

    def training(self) -> LanguageTraining:
        """Return the training, of `steps` steps."""
        return LanguageTraining(self.steps, self.batch, self.learning_rate, seed=self.seed, seconds=self.seconds)


@app.command("language")
@grouped
def language_command(
    out: Annotated[Path, typer.Option(help="Checkpoint to write; an unfinished one of the same training is resumed.")],
    text: TextOptions,
    sizes: ModelOptions,
    asked: StepOptions,
    machine: TorchOptions,
    recorded: LoadOptions,
    start: Annotated[
        Path | None, typer.Option(help="Go on from a finished training's weights, with new steps.")
    ] = None,
) -> None:
    """Train a byte-level MoE language model on code, docs and novels; a checkpoint every three minutes, resumed.

    Example: `python -m collect language --domains code --steps 40 --layers 2 --experts 8 --out small.pt`
    """
    asked.set_precision()
    check_place(out, [start])
    counter = recorded.counter([out, start])
    where, corpus = machine.pick(), text.read()
    config, training = sizes.config(), asked.training()
    if asked.seconds is not None:
        training = replace(training, steps=steps_within(asked.seconds, corpus, config, training, where, out))
        print(f"{out}: {training.steps} steps fit into {asked.seconds:g} s")
    with Progress(transient=True) as progress:
        task = progress.add_task("training", total=training.steps)
        model, about = train_language(
            corpus, config, training, where, out,
            on_step=lambda step, loss: progress.update(
                task, completed=step, description=f"training, {loss / np.log(2):.2f} bits per byte"
            ),
            start=start, counter=counter,
        )  # fmt: skip
    last = about["history"][-1]
    print(f"{out}: {last['step']} steps, {last['loss'] / np.log(2):.3f} bits per training byte at the end")
    recorded.write(counter, language_model_info(model), trained_on(corpus), about)


def trained_on(corpus: Corpus) -> dict:
    """Return what a load trace says of the text that its model was trained on."""
    return {"name": "text", "digest": corpus.digest, "note": "training documents of " + ", ".join(corpus.names)}


@app.command("language-quality")
@grouped
def language_quality_command(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Table to write: a row per domain and model, CSV; OUT.json beside it.")],
    text: TextOptions,
    machine: TorchOptions,
    segments: Annotated[int, COUNT.option(low=2, help="Held-out segments per domain, half a window each.")] = 1000,
    force: Force = False,
) -> None:
    """Measure held-out bits per byte of every domain, beside a byte 5-gram with Kneser-Ney smoothing.

    Example: `python -m collect language-quality --domains code --checkpoint small.pt --segments 50 --out language.csv`
    """
    if is_made(out, [checkpoint], force):
        return
    corpus = text.read()
    model, about = restore_language(checkpoint, corpus)
    where = machine.pick()
    with Progress(transient=True) as progress:
        task = progress.add_task("measuring", total=len(corpus.domains) * -(-segments // 8))
        rows = measure_bits(model.to(where), corpus, segments, lambda: progress.advance(task))
    write_quality(out, rows, model, about, corpus, where, checkpoint, force)
    table = Table("domain", "model", "bits per byte", "lead", box=None)
    for row in rows:
        table.add_row(
            row["domain"], row["model"], f"{row['bits_per_byte']:.3f} ± {row['standard_error']:.3f}",
            f"{row['lead']:.3f} ± {row['lead_error']:.3f}",
        )  # fmt: skip
    Console().print(table)


def write_quality(
    out: Path, rows: list[dict], model: torch.nn.Module, about: dict, corpus: Corpus, where: torch.device,
    checkpoint: Path, force: bool,
) -> None:  # fmt: skip
    """Write the table of bits per byte, and beside it which model was measured on which text."""
    with staged(out, [checkpoint], force) as written:
        write_rows(written, rows)
        write_json(written.with_suffix(".json"), {
            "device": device_name(where), "data": {"name": "text", "digest": corpus.digest, **corpus.about()},
            "model": about["model"], "training": about["training"], "start": about.get("start"),
            "history": about["history"][-1],
            "parameters": sum(each.numel() for each in model.parameters()), "provenance": provenance(),
        })  # fmt: skip


@dataclass(frozen=True)
class ServedOptions:
    """What is recorded: how much text, and how it is run."""

    phase: Annotated[
        str, typer.Option(help=f"{', '.join(PHASES)}: whole windows at once, byte by byte, or prompts served.")
    ] = "decode"
    windows: Annotated[int, COUNT.option(low=1, help="Prefill, stepwise: windows per domain.")] = 8
    requests: Annotated[int, COUNT.option(low=1, help="Decode: sequences, domains taking turns.")] = 96
    prompt: Annotated[str, typer.Option(help="Decode: bytes of a prompt, low-high, log-uniform.")] = "16-128"
    decode: Annotated[str, typer.Option(help="Decode: bytes generated, low-high, log-uniform.")] = "32-128"
    in_flight: Annotated[int, COUNT.option(low=1, help="Sequences in flight; windows per step.")] = 8
    seed: Annotated[int, COUNT.option(low=0)] = 0

    def lengths(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the ranges of bytes, of prompts and of what follows them."""
        return command.length_range("--prompt", self.prompt), command.length_range("--decode", self.decode)


@dataclass(frozen=True)
class RecordedOptions:
    """What is kept of every selection."""

    candidates: Annotated[int | None, COUNT.option(low=1, help="Experts recorded, best first; default: all.")] = None
    score_bits: ScoreBits = FULL_PRECISION

    def recorder(self, model: torch.nn.Module) -> Recorder:
        """Return the recorder of a model; InputError for more candidates than it has experts, or fewer than it uses."""
        config = model.config
        if self.candidates is not None and not config.k <= self.candidates <= config.experts:
            raise InputError(f"--candidates {self.candidates}: allowed {config.k}..{config.experts}")
        return Recorder(model, self.candidates or config.experts, self.score_bits)


@app.command("language-route")
@grouped
def language_route_command(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Trace to write; while it is recorded, a folder beside it.")],
    text: TextOptions,
    served: ServedOptions,
    recorded: RecordedOptions,
    machine: TorchOptions,
    force: Force = False,
) -> None:
    """Record which experts held-out text selects: whole windows, the same byte by byte, or prompts served.

    Serving batches sequences of different lengths; where one ends the next joins, so steps have different sizes.

    Example: `python -m collect language-route --checkpoint small.pt --domains code --out small.trace.parquet`
    """
    if served.phase not in PHASES:
        raise unknown_name("phase", served.phase, PHASES)
    if is_made(out, [checkpoint], force):
        return
    corpus, where = text.read(), machine.pick()
    model, about = restore_language(checkpoint, corpus)
    model = model.to(where)
    recorder, draws = recorded.recorder(model), np.random.default_rng(served.seed)
    notes = {"phase": served.phase, "slots": served.in_flight, "score_bits": recorded.score_bits}
    header = language_header(model, about, corpus, where, served.seed, notes)
    with Progress(transient=True) as progress:
        task = progress.add_task("recording", total=None)
        step = partial(progress.advance, task)
        if served.phase != "decode":
            stepwise = served.phase == "stepwise"
            record_prefill(
                model, corpus, header, recorder, served.windows, served.in_flight, draws, out, step, stepwise=stepwise
            )
        else:
            wanted = draw_requests(corpus, served.requests, *served.lengths(), model.config.window, draws)
            record_decode(model, wanted, header, recorder, served.in_flight, served.seed, out, step)
    print(f"{out}: recorded")
