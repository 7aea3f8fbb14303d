"""The operating points of the delta-MoE study: every model of the family, fixed and dynamic K, and their controls.

What was fixed before anything was measured: the rule in question is delta, its target a mean K of 2, thresholds come
from validation images, and a difference counts from 0.3 points of accuracy on. Other rules and targets are measured
too.

Of every seed:
fixed      each fixed-k model at its own k; fixed-4 also at every k = 1..E, the dynamic ones at k = 1..8 (the same
           weights with fixed K; and the oracle: the least k that answers right)
rule       fixed-4 under every rule, the dynamic models under their own, thresholds chosen for each target mean K
trained    the dynamic models under the threshold they were trained with
shuffled   control: the numbers of experts that a rule gave, dealt to other samples
noisy      control for the oracle: tries with gate noise, one as accurate as a fixed k is on average
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from moe_replay.collect.devices import device_name, on_device
from moe_replay.collect.models.classifier import Classifier
from moe_replay.collect.studies.chosen_thresholds import noise_for, rule_for
from moe_replay.collect.studies.delta_k_family import DYNAMIC, FIXED, HeldOut, train_member
from moe_replay.collect.studies.sample_answers import Answers, answer, noisy_gates
from moe_replay.collect.training.classifier_training import TrainingConfig
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.operating_points import OperatingPoints, operating_points

POST_HOC = "fixed-4"  # the fixed-k model to which rules are applied afterwards
RULES_POST_HOC = ("delta", "top-p", "entropy", "gap")
TARGETS = (1.5, 2.0, 3.0)
MOST = 8  # largest K of a rule, as in the dynamic models' training
SAME_WEIGHTS_K = 8
TRIES = 16


@dataclass
class SeedStudy:
    """All points of one seed, in the order they were measured."""

    seed: int
    validation: tuple[torch.Tensor, torch.Tensor]
    test: tuple[torch.Tensor, torch.Tensor]
    points: list[dict] = field(default_factory=list)
    answers: list[Answers] = field(default_factory=list)

    def add(self, name: str, how: str, found: Answers, **more: object) -> Answers:
        """Note a point: model, seed, how K was set, and what else is known of it."""
        self.points.append({
            "model": name, "seed": self.seed, "how": how, "mean_k": found.mean_k, "accuracy": found.accuracy, **more,
        })  # fmt: skip
        self.answers.append(found)
        return found

    def fixed(self, name: str, model: Classifier, ks: list[int]) -> None:
        """Measure fixed numbers of experts."""
        for k in ks:
            self.add(name, "fixed", answer(model, *self.test, k), k=k)

    def rules(self, name: str, model: Classifier, rules: tuple[str, ...]) -> None:
        """Measure rules at every target mean K they can reach, and deal the primary ones' numbers to other samples."""
        for rule_name in rules:
            for target in TARGETS:
                if rule_name == "gap" and target >= 2:  # K is 1 or 2: at a mean of 2 nothing is chosen any more
                    continue
                rule, seen = rule_for(rule_name, target, MOST, model, *self.validation)
                about = {"rule": str(rule), "target_k": target}
                validated = {"validation_mean_k": seen.mean_k, "validation_accuracy": seen.accuracy}
                found = self.add(name, "rule", answer(model, *self.test, rule), **about, **validated)
                if target == 2:
                    self.shuffled(name, model, found, **about)

    def shuffled(self, name: str, model: Classifier, found: Answers, **about: object) -> None:
        """Measure the control: the same numbers of experts, dealt to other samples (all layers of one together)."""
        generator = torch.Generator().manual_seed(self.seed)
        dealt_NL = found.count_NL[torch.randperm(len(found.count_NL), generator=generator)].to(self.test[0].device)
        self.add(name, "shuffled", answer(model, *self.test, dealt_NL), **about)

    def trained(self, name: str, model: Classifier) -> None:
        """Measure a dynamic model as it was trained, and its numbers of experts dealt to other samples."""
        seen = answer(model, *self.validation, None)
        about = {"rule": str(model.gates[0].rule), "validation_mean_k": seen.mean_k,
                 "validation_accuracy": seen.accuracy}  # fmt: skip
        self.shuffled(name, model, self.add(name, "trained", answer(model, *self.test, None), **about), **about)

    def noisy(self, name: str, model: Classifier) -> None:
        """Measure tries with gate noise, each as accurate on validation images as fixed k = 1..TRIES are on average."""
        k = model.config.k
        sweep = [answer(model, *self.validation, each).accuracy for each in range(1, TRIES + 1)]
        deviation = noise_for(float(np.mean(sweep)), k, model, *self.validation, self.seed)
        generator = torch.Generator(self.test[0].device).manual_seed(self.seed + 1)
        with noisy_gates(model, deviation, generator):
            for number in range(1, TRIES + 1):
                found = answer(model, *self.test, k)
                self.add(name, "noisy", found, k=k, number=number, deviation=deviation)


def study_seed(held: HeldOut, training: TrainingConfig, models: Path, device: torch.device) -> SeedStudy:
    """Measure all points of one seed; models that are not trained yet are trained first."""
    images = held.images
    split = (held.validation_NF, held.validation_label_N), (images.test_NF, images.test_label_N)
    validation, test = (tuple(on_device(values, device) for values in part) for part in split)
    study = SeedStudy(training.seed, validation, test)
    for name in FIXED:
        model = train_member(images, name, training, models, device)
        swept = name == POST_HOC
        study.fixed(name, model, list(range(1, model.config.experts + 1)) if swept else [model.config.k])
        if swept:
            study.rules(name, model, RULES_POST_HOC)
            study.noisy(name, model)
    for name, config in DYNAMIC.items():
        model = train_member(images, name, training, models, device)
        study.trained(name, model)
        study.rules(name, model, (config.gate,))
        study.fixed(name, model, list(range(1, SAME_WEIGHTS_K + 1)))
    return study


def measure_points(
    held: HeldOut, training: TrainingConfig, seeds: list[int], models: Path, device: torch.device, jobs: int,
    say: Callable[[str], object] = print,
) -> OperatingPoints:  # fmt: skip
    """Return the operating points of every seed in one table, seeds ascending."""
    from joblib import Parallel, delayed  # late: other commands need no joblib

    studies = []
    done = Parallel(n_jobs=jobs if device.type == "cpu" else 1, return_as="generator")(
        delayed(study_seed)(held, replace(training, seed=seed), models, device) for seed in seeds
    )
    for study in done:
        studies.append(study)
        say(f"seed {study.seed}: {len(study.points)} operating points")
    images = held.images
    answers = [found for study in studies for found in study.answers]
    header = {
        "points": [point for study in studies for point in study.points],
        "layers": answers[0].count_NL.shape[1], "device": device_name(device),
        "data": {**images.about, "validation_images": len(held.validation_NF)},
        "epochs": training.epochs, "provenance": provenance(training.seed),
    }  # fmt: skip
    right_PN = np.stack([found.right_N.numpy() for found in answers])
    selections_PN = np.stack([found.count_NL.sum(1).numpy() for found in answers])
    return operating_points(images.test_label_N, right_PN, selections_PN, header)
