"""Commands about the byte-level language model: language, language-quality, language-route."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from moe_replay.collect.commands.app import Checkpoint, Device, Force, Threads, app
from moe_replay.collect.datasets.text_corpus import Corpus, read_corpus
from moe_replay.collect.datasets.text_sources import SOURCES
from moe_replay.collect.devices import device_name, pick_device
from moe_replay.collect.models.language_model import LanguageConfig
from moe_replay.collect.recording.continuous_batching import draw_requests
from moe_replay.collect.recording.language_recording import Recorder, language_header, record_decode, record_prefill
from moe_replay.collect.recording.score_rounding import FULL_PRECISION
from moe_replay.collect.studies.language_quality import measure_bits
from moe_replay.collect.training.language_training import LanguageTraining, restore_language, train_language
from moe_replay.collect.training.training_pace import steps_within
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.outputs import check_place, is_made, staged
from moe_replay.traces.command_line.provenance import provenance
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


@app.command("language")
def language_command(
    out: Annotated[Path, typer.Option(help="Checkpoint to write; an unfinished one of the same training is resumed.")],
    domains: Domains = None,
    data_dir: TextDir = None,
    steps: Annotated[int, typer.Option(min=1)] = 9000,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Instead of --steps: as many as fit, by the pace of the first.")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Windows per step.")] = 8,
    learning_rate: Annotated[float, typer.Option(min=1e-9)] = 2e-3,
    layers: Annotated[int, typer.Option(min=1)] = 8,
    experts: Annotated[int, typer.Option(min=1, help="Experts per layer.")] = 32,
    k: Annotated[int, typer.Option(min=1, help="Experts per byte and layer.")] = 4,
    dmodel: Annotated[int, typer.Option(min=2, help="Width of a token.")] = 128,
    hidden: Annotated[int, typer.Option(min=1, help="Hidden units of each expert.")] = 128,
    heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 4,
    window: Annotated[int, typer.Option(min=2, help="Longest sequence, bytes.")] = 256,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    start: Annotated[
        Path | None, typer.Option(help="Go on from a finished training's weights, with new steps.")
    ] = None,
    precision: Annotated[
        str, typer.Option(help=f"Of matrix products: {', '.join(PRECISIONS)}; high is TF32 on a GPU.")
    ] = "highest",
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Train a byte-level MoE language model on code, docs and novels; a checkpoint every three minutes, resumed.

    Example: `python -m collect language --domains code --steps 40 --layers 2 --experts 8 --out small.pt`
    """
    torch.set_num_threads(threads)
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    torch.set_float32_matmul_precision(precision)
    check_place(out, [start])
    where, corpus = pick_device(device), corpus_of(domains, data_dir)
    config = LanguageConfig(layers, experts, k, dmodel, hidden, heads, window)
    training = LanguageTraining(steps, batch, learning_rate, seed=seed, seconds=seconds)
    if seconds is not None:
        training = replace(training, steps=steps_within(seconds, corpus, config, training, where, out))
        print(f"{out}: {training.steps} steps fit into {seconds:g} s")
    with Progress(transient=True) as progress:
        task = progress.add_task("training", total=training.steps)
        _, about = train_language(
            corpus, config, training, where, out,
            on_step=lambda step, loss: progress.update(
                task, completed=step, description=f"training, {loss / np.log(2):.2f} bits per byte"
            ),
            start=start,
        )  # fmt: skip
    last = about["history"][-1]
    print(f"{out}: {last['step']} steps, {last['loss'] / np.log(2):.3f} bits per training byte at the end")


@app.command("language-quality")
def language_quality_command(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Table to write: a row per domain and model, CSV; OUT.json beside it.")],
    domains: Domains = None,
    data_dir: TextDir = None,
    segments: Annotated[int, typer.Option(min=2, help="Held-out segments per domain, half a window each.")] = 1000,
    device: Device = "auto",
    threads: Threads = 1,
    force: Force = False,
) -> None:
    """Measure held-out bits per byte of every domain, beside a byte 5-gram with Kneser-Ney smoothing.

    Example: `python -m collect language-quality --domains code --checkpoint small.pt --segments 50 --out language.csv`
    """
    torch.set_num_threads(threads)
    if is_made(out, [checkpoint], force):
        return
    corpus = corpus_of(domains, data_dir)
    model, about = restore_language(checkpoint, corpus)
    where = pick_device(device)
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


@app.command("language-route")
def language_route_command(
    checkpoint: Checkpoint,
    out: Annotated[Path, typer.Option(help="Trace to write; a recording in progress stands beside it as a folder.")],
    phase: Annotated[
        str, typer.Option(help=f"{', '.join(PHASES)}: whole windows at once, byte by byte, or prompts served.")
    ] = "decode",
    domains: Domains = None,
    data_dir: TextDir = None,
    windows: Annotated[int, typer.Option(min=1, help="Prefill, stepwise: windows per domain.")] = 8,
    requests: Annotated[int, typer.Option(min=1, help="Decode: sequences, domains taking turns.")] = 96,
    prompt: Annotated[str, typer.Option(help="Decode: bytes of a prompt, low-high, log-uniform.")] = "16-128",
    new: Annotated[str, typer.Option(help="Decode: bytes generated, low-high, log-uniform.")] = "32-128",
    slots: Annotated[int, typer.Option(min=1, help="Sequences in flight; windows per step.")] = 8,
    candidates: Annotated[int | None, typer.Option(min=1, help="Experts recorded, best first; default: all.")] = None,
    score_bits: Annotated[
        int, typer.Option(min=1, max=FULL_PRECISION, help="Bits kept of the significands of scores and norms.")
    ] = FULL_PRECISION,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "auto",
    threads: Threads = 1,
    force: Force = False,
) -> None:
    """Record which experts held-out text selects: whole windows, the same byte by byte, or prompts served.

    Serving batches sequences of different lengths; where one ends the next joins, so steps have different sizes.

    Example: `python -m collect language-route --checkpoint small.pt --domains code --out small.trace.parquet`
    """
    torch.set_num_threads(threads)
    if phase not in PHASES:
        raise unknown_name("phase", phase, PHASES)
    if is_made(out, [checkpoint], force):
        return
    corpus = corpus_of(domains, data_dir)
    model, about = restore_language(checkpoint, corpus)
    where = pick_device(device)
    model = model.to(where)
    if candidates is not None and not about["model"]["k"] <= candidates <= about["model"]["experts"]:
        raise InputError(f"--candidates {candidates}: allowed {about['model']['k']}..{about['model']['experts']}")
    recorder = Recorder(model, candidates or model.config.experts, score_bits)
    draws = np.random.default_rng(seed)
    notes = {"phase": phase, "slots": slots, "score_bits": score_bits}
    header = language_header(model, about, corpus, where, seed, notes)
    with Progress(transient=True) as progress:
        task = progress.add_task("recording", total=None)
        if phase != "decode":
            record_prefill(
                model, corpus, header, recorder, windows, slots, draws, out, lambda: progress.advance(task),
                stepwise=phase == "stepwise",
            )  # fmt: skip
        else:
            lengths = command.length_range("--prompt", prompt), command.length_range("--new", new)
            wanted = draw_requests(corpus, requests, *lengths, model.config.window, draws)
            record_decode(model, wanted, header, recorder, slots, seed, out, lambda: progress.advance(task))
    print(f"{out}: recorded")
