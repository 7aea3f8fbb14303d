"""Many trainings side by side, and the tables they leave: `vision.csv`, `vision_epochs.csv`, `vision.json`.

`vision.csv`, a row per model: data, variant, experts, consistency (0 or 1), seed, epochs, trained_parameters (all E
experts), deployed_parameters (what answers requests: random routing's averaged model), best_accuracy_percent and
best_epoch, final_accuracy_percent, threshold_percent, first_epoch_over (or `not reached`), training_s (on a machine
that may be shared: `vision_times.csv` is the measurement). `vision_epochs.csv`, a row per model and epoch: loss,
test_accuracy (of the deployed model), drawn_accuracy (random routing with its draws; else empty), seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from moe_replay.collect.datasets.images import Images
from moe_replay.collect.models.expert_averaging import deployed
from moe_replay.collect.models.vision_transformer import VisionConfig, VisionTransformer, parameter_count
from moe_replay.collect.training.processes import alone
from moe_replay.collect.training.vision_training import VisionTraining, new_vision_model, restore_vision, train_vision
from moe_replay.traces.errors import InputError

NOT_REACHED = "not reached"


@dataclass(frozen=True)
class Contender:
    """One kind of model in a comparison: a variant, its experts, and whether its training is AdaMix's two passes."""

    config: VisionConfig
    consistency: bool = False

    @property
    def label(self) -> str:
        """`switch8`, `random4-consistency`, `dense`."""
        experts = "" if self.config.variant == "dense" else str(self.config.experts)
        return f"{self.config.variant}{experts}{'-consistency' if self.consistency else ''}"

    def columns(self) -> dict:
        """Return what names it in every table."""
        return {
            "variant": self.config.variant, "experts": self.config.experts, "consistency": int(self.consistency),
        }  # fmt: skip

    def training(self, base: VisionTraining, seed: int) -> VisionTraining:
        """Return its training."""
        return replace(base, consistency=self.consistency, seed=seed)

    def checkpoint(self, models: Path, images: Images, training: VisionTraining) -> Path:
        """Return where it is kept."""
        return models / f"{images.name}-vit-{self.label}-seed{training.seed}-epochs{training.epochs}.pt"


def contenders(text: str, base: VisionConfig) -> list[Contender]:
    """Return what `dense,switch:8,random:4:consistency` lists: variant[:experts[:consistency]], with commas.

    InputError for an unknown word, a number of experts that is none, or a contender listed twice.
    """
    found = [contender(word, base) for word in text.split(",")]
    for place, each in enumerate(found):
        if each in found[:place]:
            raise InputError(f"--variants: {each.label} is listed twice")
    return found


def contender(word: str, base: VisionConfig) -> Contender:
    """Return one entry of the list."""
    variant, *rest = word.split(":")
    if len(rest) > 2 or rest[1:] not in ([], ["consistency"]) or not all(number.isdecimal() for number in rest[:1]):
        raise InputError(f"--variants: {word!r} is not VARIANT[:EXPERTS[:consistency]], such as switch:8")
    made = Contender(replace(base, variant=variant, experts=int(rest[0]) if rest else 1), bool(rest[1:]))
    made.training(VisionTraining(), 0).check(made.config)
    return made


def train_all(
    images: Images, entries: list[Contender], base: VisionTraining, seeds: list[int], models: Path,
    device: torch.device, jobs: int, say: Callable[[str], object],
) -> list[tuple[Contender, int]]:  # fmt: skip
    """Train every contender with every seed, one torch thread each, several side by side on a CPU; return the points.

    What is finished in `models` is kept, what was cut off is taken up.
    """
    from joblib import Parallel, delayed  # late: other commands need no joblib

    points = [(entry, seed) for seed in seeds for entry in entries]
    for entry in entries:
        new_vision_model(images.first(1, 1), entry.config, 0)  # refuses a patch that does not fit before hours of work

    def one(entry: Contender, seed: int) -> str:
        if device.type == "cpu":
            torch.set_num_threads(1)
        training = entry.training(base, seed)
        path = entry.checkpoint(models, images, training)
        _, about = train_vision(images, entry.config, training, alone(device), path)
        return f"{entry.label} seed {seed}: accuracy {about['history'][-1]['test_accuracy']:.4f}"

    done = Parallel(n_jobs=jobs if device.type == "cpu" else 1, return_as="generator_unordered")(
        delayed(one)(entry, seed) for entry, seed in points
    )
    for count, line in enumerate(done, start=1):
        say(f"{count}/{len(points)}  {line}")
    return points


def tables_of(
    images: Images, points: list[tuple[Contender, int]], base: VisionTraining, models: Path, threshold_percent: float
) -> tuple[list[dict], list[dict]]:
    """Return the rows of (vision.csv, vision_epochs.csv) of finished trainings."""
    rows, epochs = [], []
    for entry, seed in sorted(points, key=lambda point: (point[0].label, point[1])):
        path = entry.checkpoint(models, images, entry.training(base, seed))
        model, about = restore_vision(path, images)
        named = {"data": images.name, **entry.columns(), "seed": seed}
        rows.append(named | summary(model, about["history"], threshold_percent))
        epochs += [named | entry_of for entry_of in about["history"]]
    return rows, epochs


def summary(model: VisionTransformer, history: list[dict], threshold_percent: float) -> dict:
    """Return the results of one training: sizes, best and last accuracy, first epoch over the threshold, time."""
    best = max(history, key=lambda entry: entry["test_accuracy"])
    over = [entry["epoch"] for entry in history if entry["test_accuracy"] * 100 >= threshold_percent]
    return {
        "epochs": len(history),
        "trained_parameters": parameter_count(model), "deployed_parameters": parameter_count(deployed(model)),
        "best_accuracy_percent": round(best["test_accuracy"] * 100, 4), "best_epoch": best["epoch"],
        "final_accuracy_percent": round(history[-1]["test_accuracy"] * 100, 4),
        "threshold_percent": threshold_percent, "first_epoch_over": over[0] if over else NOT_REACHED,
        "training_s": round(sum(entry["seconds"] for entry in history), 2),
    }  # fmt: skip
