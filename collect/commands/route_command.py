"""The command `route`: which experts does data select, in a classifier of this project or in any transformers model?"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import Progress

from moe_replay.collect.commands.app import Force, ImageOptions, TorchOptions, app
from moe_replay.collect.datasets import DATASETS
from moe_replay.collect.huggingface.collector import record_prompts
from moe_replay.collect.huggingface.generation import Plan
from moe_replay.collect.huggingface.model_loading import (
    TYPES,
    check_at_hand,
    load_model,
    load_tokenizer,
    set_otherwise,
    short_name,
)
from moe_replay.collect.huggingface.probing import ALL, CHOSEN
from moe_replay.collect.huggingface.prompts import read_prompts
from moe_replay.collect.huggingface.routers import ATTENTION, MLP
from moe_replay.collect.recording.classifier_recording import record_trace
from moe_replay.collect.training.classifier_training import restore
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import is_made
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.k_rules import RULE_HELP, given_rule
from moe_replay.traces.routes import uncomputed

CLASSIFIER = "Classifier"
TRANSFORMERS = "transformers model"


Batch = Annotated[int | None, COUNT.option(low=1, help="Images or prompts per step; default: 256 or 8.")]


@dataclass(frozen=True)
class SourceOptions:
    """What is recorded: a classifier of this project, or in its place a model of transformers."""

    checkpoint: Annotated[Path | None, typer.Option(help="A classifier's finished training.")] = None
    model: Annotated[str | None, typer.Option(help="In its place: a transformers model, a folder or a name.")] = None

    def check(self) -> None:
        """Refuse two, and none."""
        if (self.checkpoint is None) == (self.model is None):
            raise InputError("--checkpoint or --model: exactly one of them is needed")


@dataclass(frozen=True)
class RoutedImageOptions(ImageOptions):
    """Which images a classifier takes, or the prompts of another model."""

    data: Annotated[str, typer.Option(help=f"{', '.join(DATASETS)}; with --model a FILE.jsonl.")] = "cifar10"


@dataclass(frozen=True)
class ClassifierOptions:
    """What has a meaning for a classifier only."""

    k: Annotated[int | None, COUNT.option(low=1, help="Experts per token.", rich_help_panel=CLASSIFIER)] = None
    rule: Annotated[str | None, typer.Option(help=f"In place of --k, {RULE_HELP}.", rich_help_panel=CLASSIFIER)] = None
    only_ran: Annotated[
        bool, typer.Option("--only-ran", help="Only what ran, no scores and norms.", rich_help_panel=CLASSIFIER)
    ] = False

    def refuse_any(self) -> None:
        """Refuse every option that is given."""
        refuse_given({"--k": self.k, "--rule": self.rule, "--only-ran": self.only_ran}, "--model")


@dataclass(frozen=True)
class PromptOptions:
    """What has a meaning for a transformers model only."""

    max_new_tokens: Annotated[
        int, COUNT.option(low=0, help="Tokens generated per prompt; 0: prefill only.", rich_help_panel=TRANSFORMERS)
    ] = 32
    max_prompt_tokens: Annotated[
        int | None, COUNT.option(low=1, help="Cut prompts to so many tokens.", rich_help_panel=TRANSFORMERS)
    ] = None
    limit: Annotated[
        int | None, COUNT.option(low=1, help="Only the first so many prompts.", rich_help_panel=TRANSFORMERS)
    ] = None
    candidates: Annotated[
        str | None,
        typer.Option(
            help=f"Experts recorded: a number, {ALL} or {CHOSEN}; default: all up to 64 where scores rank.",
            rich_help_panel=TRANSFORMERS,
        ),
    ] = None
    part: Annotated[
        str | None,
        typer.Option(
            help="encoder or decoder; attention or mlp: where both have experts.", rich_help_panel=TRANSFORMERS
        ),
    ] = None
    sample: Annotated[
        bool, typer.Option("--sample", help="Sample instead of greedy decoding.", rich_help_panel=TRANSFORMERS)
    ] = False
    seed: Annotated[int, COUNT.option(low=0, help="Of sampling.", rich_help_panel=TRANSFORMERS)] = 0
    dtype: Annotated[str, typer.Option(help=f"{', '.join(TYPES)}.", rich_help_panel=TRANSFORMERS)] = "auto"

    def refuse_any(self) -> None:
        """Refuse every option that is given."""
        given = {"--limit": self.limit, "--max-prompt-tokens": self.max_prompt_tokens, "--candidates": self.candidates,
                 "--part": self.part, "--sample": self.sample}  # fmt: skip
        refuse_given(given, "--checkpoint")

    def plan(self, batch: int) -> Plan:
        """Return how the prompts are run, so many at once."""
        candidates = given_candidates(self.candidates)
        return Plan(batch, self.max_new_tokens, self.sample, self.seed, self.part, candidates)


@app.command("route")
@grouped
def route_command(
    out: Annotated[Path, typer.Option(help="Trace to write; while it is recorded, a folder beside it.")],
    source: SourceOptions,
    images: RoutedImageOptions,
    machine: TorchOptions,
    classified: ClassifierOptions,
    prompted: PromptOptions,
    batch: Batch = None,
    force: Force = False,
) -> None:
    """Record which experts data selects: all candidates with their scores, best first.

    A classifier (--checkpoint) reads test images; under a rule for K only the experts that ran are recorded.
    A transformers model (--model) runs prompts through generate(); each line of FILE.jsonl is an object with text,
    prompt, messages or token_ids, and if wanted domain and label. No code of a model's repository is run.

    Example: `python -m collect route --checkpoint digits.pt --data digits --out digits.trace.parquet`

    Example: `python -m collect route --model allenai/OLMoE-1B-7B-0924 --data prompts.jsonl --out olmoe.trace.parquet`
    """
    source.check()
    if is_made(out, [source.checkpoint, Path(images.data) if source.model is not None else None], force):
        return
    where = machine.pick()
    if source.model is not None:
        classified.refuse_any()
        refuse_given({"--train-images": images.train_images, "--test-images": images.test_images,
                      "--data-dir": images.data_dir}, "--model")  # fmt: skip
        route_prompts(source.model, Path(images.data), prompted, batch or 8, where, out)
        return
    prompted.refuse_any()
    route_images(source.checkpoint, images, classified, batch or 256, where, out)


def route_images(
    checkpoint: Path, images: ImageOptions, classified: ClassifierOptions, batch: int, where: torch.device, out: Path
) -> None:
    """Record a classifier of this project."""
    chosen, taken = given_rule(classified.rule, classified.k), images.read()
    classifier, description = restore(checkpoint, taken)
    chosen = chosen or classifier.config.k
    trace = record_trace(classifier, description, taken, chosen, batch, where, out, classified.only_ran)
    accuracy = (trace.label_S == trace.prediction_S).mean()
    print(f"{out}: {trace.T} tokens, {trace.L} layers, {trace.E} experts; accuracy {accuracy:.4f}")


def route_prompts(name: str, data: Path, prompted: PromptOptions, batch: int, where: torch.device, out: Path) -> None:
    """Record a transformers model."""
    plan = prompted.plan(batch)
    if prompted.dtype not in TYPES:
        raise unknown_name("dtype", prompted.dtype, TYPES)
    check_at_hand(name)
    prompts = read_prompts(data, load_tokenizer(name), prompted.limit, prompted.max_prompt_tokens)
    model = load_model(name, prompted.dtype, where)
    others = set_otherwise(model, name)
    with Progress(transient=True) as progress:
        task = progress.add_task("recording", total=len(prompts))
        record_prompts(
            model, short_name(name), prompts, data, plan, out, lambda n: progress.advance(task, n),
            {"set_by_transformers": others} if others else {},
        )  # fmt: skip
    trace = load_trace(out)
    decoded = int((trace.phase_T == 1).sum())
    experts = f"{trace.K} of {trace.header.model.experts} experts"
    print(f"{out}: {trace.T} tokens, {decoded} of them decoded, {trace.L} layers, {experts}")
    if others:
        print(f"{out}: transformers set {others[0]} ({len(others)} such) to other values than the checkpoint's")
    if trace.header.notes["part"] == MLP and prompted.part is None:
        print(f"{out}: of the experts of MLPs alone; --part {ATTENTION} records those of attention")
    for said in uncomputed(trace, trace.header.model.used_k):
        print(f"{out}: {said}")


def given_candidates(text: str | None) -> int | str | None:
    """Return what --candidates asks for."""
    if text is None or text in (ALL, CHOSEN):
        return text
    if not text.isdecimal():
        raise InputError(f"--candidates {text}: allowed a number, {ALL} or {CHOSEN}")
    return int(text)


def refuse_given(options: dict[str, object], beside: str) -> None:
    """Refuse options that mean nothing beside another."""
    for name, value in options.items():
        if value not in (None, False):
            raise InputError(f"{name} means nothing beside {beside}")
