"""Numbers that are chosen on validation images, so that test images only ever measure."""

from collections.abc import Callable

import torch

from moe_replay.collect.models.classifier import Classifier
from moe_replay.collect.studies.sample_answers import Answers, answer, noisy_gates
from moe_replay.traces.k_rules import RULES, KRule

STEPS = 18  # bisections at most
CLOSE_K = 0.005  # of a target mean K


def bisected(value: Callable[[float], float], target: float, low: float, high: float, close: float) -> float:
    """Return x within low..high where a monotone function comes close to a target; the nearer end if out of reach."""
    rises = value(high) >= value(low)
    for _ in range(STEPS):
        middle = (low + high) / 2
        found = value(middle)
        if abs(found - target) <= close:
            return middle
        if (found < target) == rises:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def rule_for(
    name: str, target_k: float, most: int, model: Classifier, images_NF: torch.Tensor, label_N: torch.Tensor
) -> tuple[KRule, Answers]:
    """Return (the rule with the threshold whose mean K on these images comes closest to a target, its answers)."""
    lowest, highest = max(RULES[name].lowest, 1e-6), min(RULES[name].highest, float(model.config.experts))

    def rule(threshold: float) -> KRule:
        return KRule(name, threshold, most)

    def mean_k(threshold: float) -> float:
        return answer(model, images_NF, label_N, rule(threshold)).mean_k

    chosen = rule(bisected(mean_k, target_k, lowest, highest, CLOSE_K))
    return chosen, answer(model, images_NF, label_N, chosen)


def noise_for(
    accuracy: float, k: int, model: Classifier, images_NF: torch.Tensor, label_N: torch.Tensor, seed: int
) -> float:
    """Return the deviation of gate noise at which one noisy try has a given accuracy on these images."""

    def single_try(deviation: float) -> float:
        generator = torch.Generator(images_NF.device).manual_seed(seed)
        with noisy_gates(model, deviation, generator):
            return answer(model, images_NF, label_N, k).accuracy

    return bisected(single_try, accuracy, 0.0, 16.0, 0.001)
