"""Training a vision transformer, alone or in several processes; a checkpoint after every epoch, from which it resumes.

Every epoch draws order, augmentation and routing from (seed, epoch) alone: an interrupted training ends in the bytes
of an uninterrupted one (on a CPU, with the same number of processes).
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.devices import on_device, synchronise
from moe_replay.collect.models.expert_averaging import deployed
from moe_replay.collect.models.vision_transformer import AVERAGED, VisionConfig, VisionTransformer
from moe_replay.collect.recording.load_counting import LoadCounter
from moe_replay.collect.training.checkpoints import load_checkpoint, save_checkpoint
from moe_replay.collect.training.classifier_training import TrainingConfig, set_learning_rate
from moe_replay.collect.training.processes import Processes
from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class VisionTraining(TrainingConfig):
    """AdamW; learning rate warmed up over the first tenth, then down a cosine to zero. `batch` is over all processes.

    `consistency`: AdaMix's two passes with different draws (random routing only). InputError for what cannot be.
    """

    epochs: int = 10
    batch: int = 128
    weight_decay: float = 0.05
    consistency: bool = False

    def check(self, config: VisionConfig, processes: int = 1) -> None:
        """InputError where this training does not go with a model or with a number of processes."""
        if self.consistency and config.variant not in AVERAGED:
            raise InputError(f"consistency: variant {config.variant} draws nothing, allowed: {', '.join(AVERAGED)}")
        if self.batch < processes:
            raise InputError(f"batch = {self.batch}, allowed: {processes} (the processes) and more")


def describe(images: Images, config: VisionConfig, training: VisionTraining) -> dict:
    """Return what a checkpoint belongs to."""
    return {
        "kind": "vision", "model": asdict(config), "shape": list(images.shape), "data": images.name,
        "data_digest": images.digest, "data_note": images.note, "training": asdict(training),
    }  # fmt: skip


def new_vision_model(images: Images, config: VisionConfig, seed: int) -> VisionTransformer:
    """Return an untrained model that fits a data set."""
    mean_F, deviation_F = (torch.from_numpy(values) for values in images.mean_and_deviation())
    return VisionTransformer(config, images.shape, mean_F, deviation_F.clamp_min(1.0), images.classes, seed)


def train_vision(
    images: Images, config: VisionConfig, training: VisionTraining, processes: Processes, checkpoint: Path,
    on_epoch: Callable[[int, dict], object] | None = None, counter: LoadCounter | None = None,
) -> tuple[VisionTransformer, dict]:  # fmt: skip
    """Train, or finish a training that was cut off; return (model in evaluation mode, description with history).

    An entry of the history: epoch, loss (cross-entropy), test_accuracy (of what would be deployed: random routing's
    averaged model), drawn_accuracy (random routing with its draws; else None), seconds (training only). The first
    process evaluates and writes. `counter` counts what switch gates select in a single process. InputError where
    `checkpoint` belongs to another model, data set or training.
    """
    training.check(config, processes.count)
    description, device = describe(images, config, training), processes.device
    model = new_vision_model(images, config, training.seed).to(device)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    if counter:
        counter.watch([block.feed_forward.gate for block in model.blocks])
    history = resume(checkpoint, description, model, optimizer, counter) if checkpoint.exists() else []
    runner = processes.wrap(model)
    for epoch in range(len(history), training.epochs):
        synchronise(device)
        started = time.perf_counter()
        loss = train_epoch(runner, optimizer, images, training, epoch, processes, counter)
        synchronise(device)
        seconds = round(time.perf_counter() - started, 2)
        if processes.first:
            history.append(
                {"epoch": epoch + 1, "loss": loss, **tested(model, images, training.seed), "seconds": seconds}
            )
            finished = epoch + 1 == training.epochs
            going_on = None if finished else optimizer
            save_checkpoint(checkpoint, description, model, going_on, history, counter and counter.state())
            if on_epoch:
                on_epoch(epoch + 1, history[-1])
    return model.eval(), {**description, "history": history}


def resume(
    checkpoint: Path, description: dict, model: nn.Module, optimizer: torch.optim.Optimizer,
    counter: LoadCounter | None = None,
) -> list[dict]:  # fmt: skip
    """Take up a checkpoint's weights, optimiser and counts; return its history."""
    stored = load_checkpoint(checkpoint, description)
    if counter:
        counter.resume(stored.get("loads"), checkpoint)
    model.load_state_dict(stored["model_state"])
    if len(stored["history"]) < description["training"]["epochs"]:
        optimizer.load_state_dict(stored["optimizer_state"])
    return stored["history"]


def train_epoch(
    runner: nn.Module, optimizer: torch.optim.Optimizer, images: Images, training: VisionTraining, epoch: int,
    processes: Processes, counter: LoadCounter | None = None,
) -> float:  # fmt: skip
    """Run one epoch and return its mean cross-entropy over all processes."""
    runner.train()
    device = processes.device
    draws = np.random.default_rng([training.seed, epoch])
    generator = torch.Generator(device).manual_seed(int(draws.integers(2**62)) + own_draws(runner, processes))
    order = draws.permutation(len(images.train_NF))
    shift_N3 = augmentation(draws, images)
    train_NF, label_N = on_device(images.train_NF, device), on_device(images.train_label_N, device)
    steps = -(-len(order) // training.batch)
    total = torch.zeros((), device=device)
    for step in range(steps):
        chosen = order[step * training.batch : (step + 1) * training.batch]
        if len(chosen) < processes.count:
            break  # a rest too small for every process to have a row
        if counter:
            counter.before_step(epoch * steps + step)
        rows = on_device(processes.share(chosen), device)
        batch_NF = augment(train_NF[rows], on_device(shift_N3[processes.share(chosen)], device), images.shape)
        set_learning_rate(optimizer, training, epoch + step / steps)
        cross_entropy, extra = losses(runner, batch_NF, label_N[rows], training.consistency, generator)
        optimizer.zero_grad(set_to_none=True)
        # Gradients are averaged over processes: weighted like this, unequal parts still give the batch's mean.
        ((cross_entropy + extra) * (len(rows) * processes.count / len(chosen))).backward()
        optimizer.step()
        total += cross_entropy.detach() * len(rows)
    return processes.total(total) / len(order) / (2 if training.consistency else 1)


def own_draws(runner: nn.Module, processes: Processes) -> int:
    """Return what sets a process's draws apart: all draw the same expert per pass, but each its tokens' own."""
    model = getattr(runner, "module", runner)
    return 0 if model.config.variant == "random" else processes.rank


def losses(
    runner: nn.Module, images_NF: torch.Tensor, label_N: torch.Tensor, consistency: bool, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (cross-entropy, what is added to it): the gates' loss, and with `consistency` two passes' divergence.

    Two passes: the sum of both cross-entropies and 1/2 (KL(p||q) + KL(q||p)), each against a detached target, as in
    AdaMix's released code.
    """
    first_NC, loss = runner(images_NF, generator)
    cross_entropy = functional.cross_entropy(first_NC, label_N)
    if not consistency:
        return cross_entropy, loss
    second_NC, second_loss = runner(images_NF, generator)
    cross_entropy = cross_entropy + functional.cross_entropy(second_NC, label_N)
    divergence = 0.5 * (divergence_from(first_NC, second_NC) + divergence_from(second_NC, first_NC))
    return cross_entropy, loss + second_loss + divergence


def divergence_from(target_NC: torch.Tensor, logits_NC: torch.Tensor) -> torch.Tensor:
    """Return the mean KL(target || other) of two sets of logits; no gradient reaches the target."""
    target = target_NC.detach().log_softmax(1)
    return functional.kl_div(logits_NC.log_softmax(1), target, reduction="batchmean", log_target=True)


def augmentation(draws: np.random.Generator, images: Images) -> np.ndarray:
    """Return each training image's (down, right, mirrored) [N, 3]; zeros where a mirrored image is of no class."""
    count = len(images.train_NF)
    if not images.mirrored:
        return np.zeros((count, 3), dtype=np.int64)
    most = images.shape[1] // 8
    shift_N2 = draws.integers(-most, most + 1, size=(count, 2))
    return np.column_stack([shift_N2, draws.integers(2, size=count)])


def augment(images_NF: torch.Tensor, shift_N3: torch.Tensor, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return flat images moved by whole pixels, their edges repeated, and mirrored where asked."""
    channels, height, width = shape
    device = images_NF.device
    down_N1, right_N1, mirrored_N1 = shift_N3[:, :, None].unbind(1)
    row_NH = (torch.arange(height, device=device) - down_N1).clamp(0, height - 1)
    column_NW = (torch.arange(width, device=device) - right_N1).clamp(0, width - 1)
    column_NW = torch.where(mirrored_N1 > 0, width - 1 - column_NW, column_NW)
    place = (row_NH[:, :, None] * width + column_NW[:, None, :]).flatten(1)
    place = place[:, None, :].expand(-1, channels, -1)
    return images_NF.view(-1, channels, height * width).gather(2, place).flatten(1)


def tested(model: VisionTransformer, images: Images, seed: int) -> dict[str, float | None]:
    """Return the test accuracy of what would be deployed, and of random routing with its draws (else None)."""
    device = model.mean_F.device
    test_NF, label_N = on_device(images.test_NF, device), on_device(images.test_label_N, device)
    drawn = None
    if model.config.variant in AVERAGED:
        drawn = accuracy(model, test_NF, label_N, torch.Generator(device).manual_seed(seed))
    return {"test_accuracy": accuracy(deployed(model), test_NF, label_N), "drawn_accuracy": drawn}


@torch.inference_mode()
def accuracy(
    model: VisionTransformer, images_NF: torch.Tensor, label_N: torch.Tensor, generator: torch.Generator | None = None,
    batch: int = 500,
) -> float:  # fmt: skip
    """Return the share of images whose class is found; random routing draws anew for every batch."""
    model.eval()
    right = sum(
        int((model(images, generator)[0].argmax(1) == labels).sum())
        for images, labels in zip(images_NF.split(batch), label_N.split(batch), strict=True)
    )
    return right / len(label_N)


def restore_vision(checkpoint: Path, images: Images | None = None) -> tuple[VisionTransformer, dict]:
    """Return (model in evaluation mode, description with history) of a finished training.

    InputError where it is not finished, holds another kind of model, or was trained on other images than `images`.
    """
    stored = load_checkpoint(checkpoint)
    description, state, history = stored["description"], stored["model_state"], stored["history"]
    if description.get("kind") != "vision":
        raise InputError(f"{checkpoint}: is no vision transformer; it was not made by `python -m collect vision`")
    if len(history) < description["training"]["epochs"]:
        raise InputError(f"{checkpoint}: {len(history)} of {description['training']['epochs']} epochs are done")
    if images is not None and description["data_digest"] != images.digest:
        raise InputError(f"{checkpoint}: was trained on {description['data']}, other images than --data {images.name}")
    model = VisionTransformer(
        VisionConfig(**description["model"]), tuple(description["shape"]), state["mean_F"], state["deviation_F"],
        len(state["head.weight"]), 0,
    )  # fmt: skip
    model.load_state_dict(state)
    return model.eval(), {**description, "history": history}
