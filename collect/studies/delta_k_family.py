"""The models of the delta-MoE study: trained at fixed K and with dynamic-K gates, alike in everything else.

All have the same sizes, data, epochs, balance loss and softmax router. The fixed ones differ in k alone; at k = 1 the
gate is Switch's (weighted by the probability over all experts, input jittered by 1 %), because a weight normalised over
one expert is always 1 and would teach the router nothing: with it k = 1 loses about 3 points on CIFAR-10, and any
dynamic gate would look good beside it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.models.classifier import CONFIGURATIONS, Classifier, ClassifierConfig
from moe_replay.collect.training.classifier_training import TrainingConfig, train
from moe_replay.traces.errors import InputError

VALIDATION_IMAGES = 5000  # the last training images: thresholds are chosen on them, no model is trained on them
BASE = replace(CONFIGURATIONS["base"], gate="top-k")
FIXED: dict[str, ClassifierConfig] = {
    "fixed-1": replace(BASE, gate="switch", k=1),
    "fixed-2": replace(BASE, k=2),
    "fixed-3": replace(BASE, k=3),
    "fixed-4": replace(BASE, k=4),
}
DYNAMIC: dict[str, ClassifierConfig] = {
    "delta": replace(BASE, gate="delta", threshold=0.5, most=8, w_size=0.003),
    "top-p": replace(BASE, gate="top-p", threshold=0.4, most=8, w_size=0.003),
}
FAMILY = FIXED | DYNAMIC


@dataclass(frozen=True)
class HeldOut:
    """A data set whose last training images are held out: `images` to train and test on, the held-out ones apart."""

    images: Images
    validation_NF: np.ndarray
    validation_label_N: np.ndarray


def hold_out(images: Images, count: int = VALIDATION_IMAGES) -> HeldOut:
    """Return the data set with its last `count` training images held out; InputError where too few would be left."""
    left = len(images.train_NF) - count
    if left < count:
        raise InputError(
            f"{images.name}: {len(images.train_NF)} training images, needed {2 * count} to hold out {count}"
        )
    return HeldOut(images.first(left, None), images.train_NF[left:], images.train_label_N[left:])


def checkpoint_of(models: Path, data: str, name: str, training: TrainingConfig) -> Path:
    """Return where a member of the family is kept."""
    return models / f"{data}-{name}-seed{training.seed}-epochs{training.epochs}.pt"


def train_member(images: Images, name: str, training: TrainingConfig, models: Path, device: torch.device) -> Classifier:
    """Train one member of the family, or finish or take the one that is there; returns it in evaluation mode."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    return train(images, FAMILY[name], training, device, checkpoint_of(models, images.name, name, training))[0]


def train_family(
    images: Images, training: TrainingConfig, seeds: list[int], models: Path, device: torch.device, jobs: int,
    say: Callable[[str], object] = print,
) -> None:  # fmt: skip
    """Train every member with every seed, several side by side on a CPU; what is finished is kept."""
    from joblib import Parallel, delayed  # late: other commands need no joblib

    points = [(name, replace(training, seed=seed)) for name in FAMILY for seed in seeds]

    def one(name: str, chosen: TrainingConfig) -> str:
        train_member(images, name, chosen, models, device)
        return f"{name} seed {chosen.seed}"

    done = Parallel(n_jobs=jobs if device.type == "cpu" else 1, return_as="generator_unordered")(
        delayed(one)(name, chosen) for name, chosen in points
    )
    for count, line in enumerate(done, start=1):
        say(f"{count}/{len(points)}  trained {line}")
