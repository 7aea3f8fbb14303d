"""How many steps of training fit into a given time: measured on a model that is thrown away.

The learning rate's schedule needs to know its length beforehand. A checkpoint of the same time says how many steps it
was begun with, so a training that was cut off goes on with the schedule that it had.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from moe_replay.collect.datasets.text_corpus import Corpus
from moe_replay.collect.models.language_model import LanguageConfig, LanguageModel
from moe_replay.collect.training.checkpoints import load_checkpoint
from moe_replay.collect.training.language_training import LanguageTraining, optimizer_of, train_step

WARM_STEPS = 3  # not counted: memory is taken, kernels are chosen
LEAST_STEPS = 5
SHARE = 0.05  # of the time, for measuring


def steps_within(
    seconds: float, corpus: Corpus, config: LanguageConfig, training: LanguageTraining, device: torch.device,
    checkpoint: Path,
) -> int:  # fmt: skip
    """Return the steps that fit into `seconds`, measuring included; those of the checkpoint where it was begun so."""
    if checkpoint.exists():
        begun = load_checkpoint(checkpoint)["description"].get("training", {})
        if begun.get("seconds") == seconds:
            return begun["steps"]
    started = time.perf_counter()
    model = LanguageModel(config, training.seed).to(device)
    optimizer = optimizer_of(model, training)
    for step in range(WARM_STEPS):
        train_step(model, optimizer, corpus, training, step, device)
    measured, steps = time.perf_counter(), 0
    while steps < LEAST_STEPS or time.perf_counter() - measured < SHARE * seconds:
        train_step(model, optimizer, corpus, training, WARM_STEPS + steps, device)  # waits for the device: its loss
        steps += 1
    now = time.perf_counter()
    return max(int((seconds - (now - started)) / ((now - measured) / steps)), 1)
