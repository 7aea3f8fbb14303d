"""Accuracy against k: models trained at every k, and one trained k evaluated at every k, over seeds."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.devices import on_device
from moe_replay.collect.models.classifier import ClassifierConfig
from moe_replay.collect.training.classifier_training import TrainingConfig, evaluate, train
from moe_replay.traces.command_line.files import replacing, write_json
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError

COLUMNS = ("data", "trained_k", "evaluated_k", "seed", "epochs", "samples", "accuracy", "cross_entropy")


def measure_quality(
    images: Images, base: ClassifierConfig, training: TrainingConfig, ks: list[int], seeds: list[int],
    models: Path, device: torch.device, jobs: int,
    say: Callable[[str], object] = print,
) -> list[dict]:  # fmt: skip
    """Train a model per (k, seed) and evaluate it; return the rows of the quality table, sorted.

    Each finished (k, seed) leaves a result file beside its checkpoint in `models`; a second call takes it from there.
    The model trained at `base.k` is evaluated at every k = 1..E, the others at their own k.
    """
    from joblib import Parallel, delayed  # late: other commands need no joblib

    points = [(k, seed) for seed in seeds for k in ks]
    done = Parallel(n_jobs=jobs if device.type == "cpu" else 1, return_as="generator_unordered")(
        delayed(quality_of)(images, replace(base, k=k), replace(training, seed=seed), base.k, models, device)
        for k, seed in points
    )
    rows = []
    for count, result in enumerate(done, start=1):
        rows += result
        own = next(row for row in result if row["evaluated_k"] == row["trained_k"])
        say(f"{count}/{len(points)}  k={own['trained_k']} seed={own['seed']}  accuracy {own['accuracy']:.4f}")
    return sorted(rows, key=lambda row: (row["trained_k"], row["evaluated_k"], row["seed"]))


def quality_of(
    images: Images, config: ClassifierConfig, training: TrainingConfig, swept_k: int, models: Path, device: torch.device
) -> list[dict]:
    """Train one model (or take its stored result) and return its rows."""
    if device.type == "cpu":
        torch.set_num_threads(1)
    name = f"{images.name}-k{config.k}-seed{training.seed}-epochs{training.epochs}"
    stored = models / f"{name}.quality.json"
    if stored.exists():
        kept = json.loads(stored.read_text())
        if kept["data_digest"] != images.digest:
            raise InputError(f"{stored}: was measured on other images; use another --models folder")
        return kept["rows"]
    model, _ = train(images, config, training, device, models / f"{name}.pt")
    test = on_device(images.test_NF, device), on_device(images.test_label_N, device)
    rows = []
    for k in range(1, config.experts + 1) if config.k == swept_k else [config.k]:
        accuracy, cross_entropy = evaluate(model, *test, k)
        rows.append({
            "data": images.name, "trained_k": config.k, "evaluated_k": k, "seed": training.seed,
            "epochs": training.epochs, "samples": len(images.test_NF),
            "accuracy": accuracy, "cross_entropy": round(cross_entropy, 6),
        })  # fmt: skip
    write_json(stored, {"data_digest": images.digest, "rows": rows})
    return rows


def write_quality(rows: list[dict], images: Images, device: str, path: Path) -> None:
    """Write the quality table as CSV, and what it was made with as JSON of the same name."""
    with replacing(path) as temporary, open(temporary, "w", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    write_json(path.with_suffix(".json"), {
        "device": device, "data": images.about,
        "provenance": provenance(),
    })  # fmt: skip
