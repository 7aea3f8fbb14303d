"""Training a classifier, with a checkpoint after every epoch from which it resumes to the same result."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.devices import on_device
from moe_replay.collect.gates.gate_result import ExpertsPerLayer
from moe_replay.collect.models.classifier import Classifier, ClassifierConfig
from moe_replay.collect.training.checkpoints import load_checkpoint, save_checkpoint
from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class TrainingConfig:
    """How long and how fast: Adam, learning rate warmed up over the first tenth, then down a cosine to zero."""

    epochs: int = 8
    batch: int = 256
    learning_rate: float = 2e-3
    seed: int = 0


def train(
    images: Images, model_config: ClassifierConfig, training: TrainingConfig, device: torch.device,
    checkpoint: Path, on_epoch: Callable[[int, dict], object] | None = None,
) -> tuple[Classifier, dict]:  # fmt: skip
    """Train, or finish a training that was cut off, and return (model, checkpoint's content without tensors).

    `on_epoch(epoch, entry)` is called after each epoch. Every epoch draws its order, its mirrored images and its gate
    noise from (seed, epoch) alone, so an interrupted training resumes to the bytes of an uninterrupted one (on CPU).
    Raises InputError where `checkpoint` belongs to another model, data set or training.
    """
    description = {
        "model": asdict(model_config), "data": images.name, "data_digest": images.digest, "data_note": images.note,
        "training": asdict(training),
    }  # fmt: skip
    model = new_classifier(images, model_config, training.seed).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=training.learning_rate, fused=True)
    history = []
    if checkpoint.exists():
        stored = load_checkpoint(checkpoint, description)
        model.load_state_dict(stored["model_state"])
        history = stored["history"]
        if len(history) < training.epochs:
            optimizer.load_state_dict(stored["optimizer_state"])
    test = on_device(images.test_NF, device), on_device(images.test_label_N, device)
    for epoch in range(len(history), training.epochs):
        started = time.perf_counter()
        loss = train_epoch(model, optimizer, images, training, epoch, device)
        accuracy, _ = evaluate(model, *test)
        seconds = time.perf_counter() - started
        history.append({"epoch": epoch + 1, "loss": loss, "test_accuracy": accuracy, "seconds": round(seconds, 2)})
        finished = epoch + 1 == training.epochs
        save_checkpoint(checkpoint, description, model, None if finished else optimizer, history)
        if on_epoch:
            on_epoch(epoch + 1, history[-1])
    return model.eval(), {**description, "history": history}


def new_classifier(images: Images, config: ClassifierConfig, seed: int) -> Classifier:
    """Return an untrained classifier that fits a data set."""
    mean_F, deviation_F = (torch.from_numpy(values) for values in images.mean_and_deviation())
    return Classifier(config, mean_F, deviation_F.clamp_min(1.0), images.classes, seed)


def train_epoch(
    model: Classifier, optimizer: torch.optim.Optimizer, images: Images, training: TrainingConfig, epoch: int,
    device: torch.device,
) -> float:  # fmt: skip
    """Run one epoch and return its mean cross-entropy."""
    model.train()
    draws = np.random.default_rng([training.seed, epoch])
    noise = torch.Generator(device).manual_seed(int(draws.integers(2**62)))
    order = draws.permutation(len(images.train_NF))
    mirrored = draws.random(len(order)) < (0.5 if images.mirrored else 0.0)
    train_NF, label_N = on_device(images.train_NF, device), on_device(images.train_label_N, device)
    steps = -(-len(order) // training.batch)
    total = torch.zeros((), device=device)
    for step in range(steps):
        chosen = order[step * training.batch : (step + 1) * training.batch]
        rows = on_device(chosen, device)
        batch_NF = mirror(train_NF[rows], on_device(mirrored[chosen], device), images.shape)
        set_learning_rate(optimizer, training, epoch + step / steps)
        logits_NC, balance = model(batch_NF, generator=noise)
        loss = functional.cross_entropy(logits_NC, label_N[rows])
        optimizer.zero_grad(set_to_none=True)
        (loss + balance).backward()
        optimizer.step()
        total += loss.detach() * len(rows)
    return float(total) / len(order)


def mirror(images_NF: torch.Tensor, flip_N: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return flat images with the flagged ones mirrored left to right."""
    images = images_NF.view(-1, *shape)
    return torch.where(flip_N[:, None, None, None], images.flip(-1), images).flatten(1)


def set_learning_rate(optimizer: torch.optim.Optimizer, training: TrainingConfig, epochs_done: float) -> None:
    """Set the rate for the coming step: up a straight line over the first tenth, then down a cosine to zero."""
    share = epochs_done / training.epochs
    factor = share / 0.1 if share < 0.1 else 0.5 + 0.5 * np.cos(np.pi * (share - 0.1) / 0.9)
    for group in optimizer.param_groups:
        group["lr"] = float(training.learning_rate * max(factor, 1e-3))


@torch.inference_mode()
def evaluate(
    model: Classifier,
    images_NF: torch.Tensor,
    label_N: torch.Tensor,
    k: ExpertsPerLayer | None = None,
    batch: int = 1000,
) -> tuple[float, float]:
    """Return (accuracy as a fraction, mean cross-entropy) with k experts per row (default: the gates' own)."""
    model.eval()
    right, loss = 0, 0.0
    for images, labels in zip(images_NF.split(batch), label_N.split(batch), strict=True):
        logits_NC, _ = model(images, k)
        right += int((logits_NC.argmax(1) == labels).sum())
        loss += float(functional.cross_entropy(logits_NC, labels, reduction="sum"))
    return right / len(label_N), loss / len(label_N)


def restore(checkpoint: Path, images: Images | None = None) -> tuple[Classifier, dict]:
    """Return (model in evaluation mode, description) of a finished training.

    InputError where it is not finished, or where `images` is given and is not the data set it was trained on.
    """
    stored = load_checkpoint(checkpoint)
    description, state = stored["description"], stored["model_state"]
    if len(stored["history"]) < description["training"]["epochs"]:
        raise InputError(
            f"{checkpoint}: {len(stored['history'])} of {description['training']['epochs']} epochs are done"
        )
    if images is not None and description["data_digest"] != images.digest:
        raise InputError(
            f"{checkpoint}: was trained on {description['data']} with other images than --data {images.name}"
        )
    config = ClassifierConfig(**description["model"])
    outputs = state["experts.0.b2_EO"].shape[1] if config.width is None else state["head.weight"].shape[0]
    model = Classifier(config, state["mean_F"], state["deviation_F"], outputs, 0)
    model.load_state_dict(state)
    return model.eval(), {**description, "history": stored["history"]}
