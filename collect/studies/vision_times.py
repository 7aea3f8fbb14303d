"""What training and inference cost, measured with the configurations interleaved on a machine that does nothing else.

`vision_times.csv`, a row per configuration, repetition and kind: variant, experts, consistency, repetition, what
(training: one pass of the real training loop over `images` images; inference: class logits of `images` images by the
deployed model), images, seconds.
"""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.devices import on_device, synchronise
from moe_replay.collect.models.expert_averaging import deployed
from moe_replay.collect.models.vision_transformer import VisionTransformer
from moe_replay.collect.studies.vision_grid import Contender
from moe_replay.collect.training.processes import alone
from moe_replay.collect.training.vision_training import VisionTraining, accuracy, restore_vision, train_epoch


def measure_times(
    images: Images, entries: list[Contender], base: VisionTraining, models: Path, device: torch.device,
    repetitions: int, training_images: int, inference_images: int, tick: Callable[[], object],
) -> list[dict]:  # fmt: skip
    """Return the rows: every repetition visits every configuration, starting one further each time.

    The first visit warms up and is not kept. Times need trained models: a switch's load is what its router learned.
    """
    data = images.first(training_images, None)
    timers = [
        (entry, what, timer)
        for entry in entries
        for what, timer in timers_of(entry, images, data, base, models, device, inference_images).items()
    ]
    rows = []
    for repetition in range(repetitions + 1):
        for place in np.roll(np.arange(len(timers)), -repetition):
            entry, what, timer = timers[place]
            synchronise(device)
            started = time.perf_counter()
            count = timer(repetition)
            synchronise(device)
            seconds = time.perf_counter() - started
            if repetition:
                rows.append(entry.columns() | {
                    "repetition": repetition, "what": what, "images": count, "seconds": round(seconds, 6),
                })  # fmt: skip
            tick()
    return rows


def timers_of(
    entry: Contender, images: Images, data: Images, base: VisionTraining, models: Path, device: torch.device,
    inference_images: int,
) -> dict[str, Callable[[int], int]]:  # fmt: skip
    """Return what is timed of one configuration: functions of the repetition that return how many images they saw."""
    training = entry.training(base, 0)
    model, _ = restore_vision(entry.checkpoint(models, images, training), images)
    model = model.to(device)
    ready = deployed(model)
    copy = restore_vision(entry.checkpoint(models, images, training), images)[0].to(device)
    optimizer = torch.optim.AdamW(copy.parameters(), lr=training.learning_rate, fused=True)
    everything = on_device(all_images(images, inference_images), device)

    def train(repetition: int) -> int:
        train_epoch(copy, optimizer, data, training, repetition % training.epochs, alone(device))
        return len(data.train_NF)

    return {"training": train, "inference": lambda _: infer(ready, everything)}


def all_images(images: Images, count: int) -> np.ndarray:
    """Return the first images of test and training set together, `count` at most."""
    return np.concatenate([images.test_NF, images.train_NF[: max(count - len(images.test_NF), 0)]])[:count]


def infer(model: VisionTransformer, images_NF: torch.Tensor) -> int:
    """Classify all images and return how many."""
    accuracy(model, images_NF, torch.zeros(len(images_NF), dtype=torch.int64, device=images_NF.device))
    return len(images_NF)


def inference_seconds(model: VisionTransformer, images: Images, count: int = 60_000) -> tuple[float, int]:
    """Return (seconds for `count` images, images measured): the test images once, warmed up, scaled up linearly."""
    device = model.mean_F.device
    test_NF = on_device(images.test_NF, device)
    ready = deployed(model)
    infer(ready, test_NF[:500])
    synchronise(device)
    started = time.perf_counter()
    infer(ready, test_NF)
    synchronise(device)
    return (time.perf_counter() - started) * count / len(test_NF), len(test_NF)
