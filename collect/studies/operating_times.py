"""What operating points cost in time: forward passes over test images, all points interleaved."""

import csv
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from moe_replay.collect.devices import on_device, synchronise
from moe_replay.collect.gates.gate_result import ExpertsPerRow
from moe_replay.collect.models.classifier import Classifier
from moe_replay.collect.studies.delta_k_family import HeldOut, train_member
from moe_replay.collect.training.classifier_training import TrainingConfig
from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError
from moe_replay.traces.k_rules import KRule
from moe_replay.traces.operating_points import OperatingPoints

COLUMNS = ("model", "how", "rule", "target_k", "k", "repetition", "images", "seconds")
SLOWEST_K = 8  # fixed numbers of experts beyond it are not timed
TIMED = ("fixed", "rule", "trained")


def timed_points(points: OperatingPoints, seed: int) -> list[dict]:
    """Return the points of one seed that are worth timing; InputError where the file has none of that seed."""
    chosen = [
        point for point in points.points
        if point["seed"] == seed and point["how"] in TIMED and point.get("k", 1) <= SLOWEST_K
    ]  # fmt: skip
    if not chosen:
        raise InputError(f"operating points: none of seed {seed}; allowed: a seed that was measured")
    return chosen


def measure_times(
    held: HeldOut, points: OperatingPoints, training: TrainingConfig, models: Path, device: torch.device,
    images: int, repetitions: int, say: Callable[[int], object] = lambda _: None,
) -> list[dict]:  # fmt: skip
    """Return one row per (point, repetition): seconds for the first `images` test images, in batches as in training.

    In every repetition all points are visited in a new order; one untimed visit of each comes first.
    """
    chosen = timed_points(points, training.seed)
    names = list(dict.fromkeys(point["model"] for point in chosen))
    members = {
        name: train_member(held.images, name, training, models, device).to(device).eval() for name in names
    }  # fmt: skip
    test_NF = on_device(held.images.test_NF[:images], device)
    draws = np.random.default_rng(training.seed)
    rows = []
    for repetition in range(-1, repetitions):
        for index in draws.permutation(len(chosen)).tolist():
            point = chosen[index]
            seconds = forward_seconds(members[point["model"]], test_NF, experts_of(point), training.batch)
            if repetition >= 0:
                about = {name: point.get(name) for name in ("model", "how", "rule", "target_k", "k")}
                rows.append({**about, "repetition": repetition, "images": len(test_NF), "seconds": round(seconds, 6)})
        say(repetition)
    return sorted(rows, key=lambda row: [str(row[name]) for name in COLUMNS[:5]] + [row["repetition"]])


def experts_of(point: dict) -> ExpertsPerRow | None:
    """Return what a point's forward pass is called with: a number, a rule, or None for "as trained"."""
    return point["k"] if point["how"] == "fixed" else None if point["how"] == "trained" else KRule.parse(point["rule"])


@torch.inference_mode()
def forward_seconds(model: Classifier, images_NF: torch.Tensor, k: ExpertsPerRow | None, batch: int) -> float:
    """Return how long the plain forward pass takes over some images, batch by batch."""
    synchronise(images_NF.device)
    started = time.perf_counter()
    for images in images_NF.split(batch):
        model(images, k)
    synchronise(images_NF.device)
    return time.perf_counter() - started


def write_times(rows: Sequence[dict], path: Path) -> None:
    """Write the table of times as CSV."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
