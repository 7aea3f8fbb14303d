"""Training the language model step by step, with checkpoints every few minutes from which it resumes."""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from moe_replay.collect.datasets.text_corpus import Corpus
from moe_replay.collect.models.language_model import LanguageConfig, LanguageModel
from moe_replay.collect.recording.load_counting import LoadCounter
from moe_replay.collect.training.checkpoints import first_difference, load_checkpoint, save_checkpoint
from moe_replay.traces.errors import InputError

KIND = "language"


@dataclass(frozen=True)
class LanguageTraining:
    """How long and how fast: AdamW, learning rate warmed up over the first 2 %, then down a cosine to a twentieth.

    A step trains on `batch` windows, each of a domain drawn evenly and at a place drawn evenly in it. `seconds`: the
    time that the steps were to fit into; None where their number was asked for.
    """

    steps: int = 9000
    batch: int = 8
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    seed: int = 0
    seconds: float | None = None

    def rate(self, step: int) -> float:
        """Return the learning rate of a step."""
        warm = max(self.steps // 50, 1)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        share = (step - warm) / max(self.steps - warm, 1)
        return self.learning_rate * (0.05 + 0.95 * (0.5 + 0.5 * math.cos(math.pi * share)))


def describe(corpus: Corpus, config: LanguageConfig, training: LanguageTraining) -> dict:
    """Return what a checkpoint belongs to: the model, the text, the training."""
    return {
        "kind": KIND, "model": asdict(config), "data_digest": corpus.digest, "domains": corpus.names,
        "training": {name: value for name, value in asdict(training).items() if value is not None},
    }  # fmt: skip


def train_language(
    corpus: Corpus, config: LanguageConfig, training: LanguageTraining, device: torch.device, checkpoint: Path,
    every_s: float = 180.0, on_step: Callable[[int, float], object] | None = None, start: Path | None = None,
    counter: LoadCounter | None = None,
) -> tuple[LanguageModel, dict]:  # fmt: skip
    """Train, or finish a training that was cut off, and return (model, description with history).

    Every step draws its windows from (seed, step) alone, so an interrupted training resumes to the bytes of an
    uninterrupted one (on CPU). A checkpoint is written every `every_s` seconds and at the end; `on_step(step, loss)`
    gets the mean cross-entropy (nats) of every step. `start` is a finished training of the same model and text whose
    weights this one goes on from, with a schedule of its own; the description tells of it. `counter` counts what the
    gates select. InputError where `checkpoint` belongs to another training, or `start` to another model or text.
    """
    model, description = begin(corpus, config, training, start)
    model = model.to(device)
    optimizer = optimizer_of(model, training)
    if counter:
        counter.watch(model.gates)
    history = resume(checkpoint, description, model, optimizer, training.steps, counter)
    step = history[-1]["step"] if history else 0
    saved, seconds, losses = time.perf_counter(), history[-1]["seconds"] if history else 0.0, []
    while step < training.steps:
        if counter:
            counter.before_step(step)
        losses.append(train_step(model, optimizer, corpus, training, step, device))
        step += 1
        if on_step:
            on_step(step, losses[-1])
        elapsed = time.perf_counter() - saved
        if elapsed >= every_s or step == training.steps:
            seconds += elapsed
            history.append({"step": step, "loss": float(np.mean(losses)), "seconds": round(seconds, 1)})
            going_on = optimizer if step < training.steps else None
            save_checkpoint(checkpoint, description, model, going_on, history, counter and counter.state())
            saved, losses = time.perf_counter(), []
    return model.eval(), {**description, "history": history}


def optimizer_of(model: LanguageModel, training: LanguageTraining) -> torch.optim.Optimizer:
    """Return the optimiser of a training before its first step."""
    return torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, betas=(0.9, 0.95), weight_decay=training.weight_decay, fused=True
    )


def begin(
    corpus: Corpus, config: LanguageConfig, training: LanguageTraining, start: Path | None
) -> tuple[LanguageModel, dict]:
    """Return (model, description) of a training before its first step."""
    description = describe(corpus, config, training)
    if start is None:
        return LanguageModel(config, training.seed), description
    model, before = restore_language(start, corpus)
    if model.config != config:
        raise InputError(f"{start}: is of another model: {first_difference(before['model'], description['model'])}")
    earlier = {"training": before["training"], "start": before.get("start"), "history": before["history"][-1]}
    return model, {**description, "start": earlier}


def resume(
    checkpoint: Path, description: dict, model: LanguageModel, optimizer: torch.optim.Optimizer, steps: int,
    counter: LoadCounter | None = None,
) -> list[dict]:  # fmt: skip
    """Take up a checkpoint where there is one and return its history."""
    if not checkpoint.exists():
        return []
    stored = load_checkpoint(checkpoint, description)
    if counter:
        counter.resume(stored.get("loads"), checkpoint)
    model.load_state_dict(stored["model_state"])
    if stored["history"][-1]["step"] < steps:
        optimizer.load_state_dict(stored["optimizer_state"])
    return stored["history"]


def train_step(
    model: LanguageModel, optimizer: torch.optim.Optimizer, corpus: Corpus, training: LanguageTraining, step: int,
    device: torch.device,
) -> float:  # fmt: skip
    """Take one step and return its mean cross-entropy in nats."""
    model.train()
    windows_BW = draw_windows(corpus, training, step, model.config.window).to(device)
    for group in optimizer.param_groups:
        group["lr"] = training.rate(step)
    logits, balance = model(windows_BW[:, :-1].flatten(), len(windows_BW))
    loss = functional.cross_entropy(logits, windows_BW[:, 1:].flatten())
    optimizer.zero_grad(set_to_none=True)
    (loss + balance).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return float(loss.detach())


def draw_windows(corpus: Corpus, training: LanguageTraining, step: int, window: int) -> torch.Tensor:
    """Return int64 [batch, window + 1]: the bytes of a step and, one further, what they are to predict."""
    draws = np.random.default_rng([training.seed, step])
    windows = []
    for domain in draws.integers(len(corpus.domains), size=training.batch):
        text_B = corpus.domains[domain].train_B
        if len(text_B) <= window:
            raise InputError(f"domain {corpus.domains[domain].name}: {len(text_B)} bytes, allowed above {window}")
        start = draws.integers(len(text_B) - window)
        windows.append(text_B[start : start + window + 1])
    return torch.from_numpy(np.stack(windows).astype(np.int64))


def restore_language(checkpoint: Path, corpus: Corpus | None = None) -> tuple[LanguageModel, dict]:
    """Return (model in evaluation mode, description with history) of a finished training.

    InputError where it is not finished, holds another kind of model, or was trained on another text than `corpus`.
    """
    stored = load_checkpoint(checkpoint)
    description, history = stored["description"], stored["history"]
    if description.get("kind") != KIND:
        raise InputError(f"{checkpoint}: is no language model; it was not made by `python -m collect language`")
    if history[-1]["step"] < description["training"]["steps"]:
        raise InputError(f"{checkpoint}: {history[-1]['step']} of {description['training']['steps']} steps are done")
    if corpus is not None and description["data_digest"] != corpus.digest:
        raise InputError(f"{checkpoint}: was trained on another text than the one found here")
    model = LanguageModel(LanguageConfig(**description["model"]), 0)
    model.load_state_dict(stored["model_state"])
    return model.eval(), {**description, "history": history}
