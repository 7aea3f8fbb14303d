"""Optimizers of a captured iteration: torch's own, and the same update of one parameter as plain operations.

torch's optimizers read the number of steps out of a tensor, which no captured graph can do, and loop over all
parameters. An update of one parameter gives the same bits, and may run as soon as that parameter's gradient is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from moe_replay.traces.errors import unknown_name

LEARNING_RATE = 1e-3
BETAS, EPSILON = (0.9, 0.999), 1e-8  # torch's defaults


@dataclass(frozen=True)
class OptimizerRule:
    """An optimizer in both forms. `moments`: the names of its tensors per parameter, zero before the first step.

    `build(parameters)` is torch's optimizer; `update(parameter, gradient, moments, step)` changes one parameter and its
    moments in place, at step 1 and later, as torch does it.
    """

    moments: tuple[str, ...]
    build: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
    update: Callable[[torch.Tensor, torch.Tensor, list[torch.Tensor], int], None]


def sgd(parameter: torch.Tensor, gradient: torch.Tensor, moments: list[torch.Tensor], step: int) -> None:
    """Go down the gradient."""
    parameter.add_(gradient, alpha=-LEARNING_RATE)


def adam(parameter: torch.Tensor, gradient: torch.Tensor, moments: list[torch.Tensor], step: int) -> None:
    """Adam (Kingma and Ba 2015), in the order of torch's operations."""
    mean, square = moments
    beta1, beta2 = BETAS
    mean.lerp_(gradient, 1 - beta1)
    square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
    deviation = (square.sqrt() / (1 - beta2**step) ** 0.5).add_(EPSILON)
    parameter.addcdiv_(mean, deviation, value=-LEARNING_RATE / (1 - beta1**step))


# foreach: all parameters at once, with temporary lists of them all; a parameter at a time needs less memory.
OPTIMIZERS: dict[str, OptimizerRule | None] = {
    "none": None,  # the iteration ends with its gradients
    "sgd": OptimizerRule((), lambda each: torch.optim.SGD(each, LEARNING_RATE, foreach=False), sgd),
    "adam": OptimizerRule(
        ("exp_avg", "exp_avg_sq"),
        lambda each: torch.optim.Adam(each, LEARNING_RATE, BETAS, EPSILON, foreach=False),
        adam,
    ),
}


def optimizer_rule(name: str) -> OptimizerRule | None:
    """Return an optimizer, None for none; an unknown name lists the known ones."""
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]
