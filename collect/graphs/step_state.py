"""What is there before an iteration and outlives it: parameters, buffers, the optimizer's moments, the batch."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from moe_replay.collect.graphs.step_optimizers import OptimizerRule
from moe_replay.collect.graphs.step_subjects import Subject


@dataclass(frozen=True)
class StepState:
    """Tensors by kind ("parameters", "buffers", "batch", a moment's name) and by name, after `steps` steps.

    `seed`: what torch's generators are set to before an iteration.
    """

    tensors: dict[str, dict[str, torch.Tensor]]
    steps: int
    seed: int

    def copied(self) -> StepState:
        """Return the same with tensors of its own."""
        tensors = {
            kind: {name: tensor.clone() for name, tensor in named.items()} for kind, named in self.tensors.items()
        }
        return StepState(tensors, self.steps, self.seed)

    @property
    def flat(self) -> list[torch.Tensor]:
        """All tensors in their order."""
        return [tensor for named in self.tensors.values() for tensor in named.values()]

    def named(self, flat: Sequence[torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
        """Return tensors that come in the order of `flat` by kind and name."""
        each = iter(flat)
        return {kind: {name: next(each) for name in named} for kind, named in self.tensors.items()}

    def differs_from(self, other: StepState) -> str | None:
        """Return the first tensor that is not bit by bit that of another state, as `KIND NAME`; None if all are."""
        for kind, named in self.tensors.items():
            for name, tensor in named.items():
                if not same_bits(tensor, other.tensors[kind][name]):
                    return f"{kind} {name}"
        return None

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Set torch's generators for an iteration; afterwards they go on as if nothing had been drawn."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            yield


def same_bits(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Say whether two tensors hold the same bits, so that equal NaNs are equal."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.equal(first.contiguous().view(-1).view(torch.uint8), second.contiguous().view(-1).view(torch.uint8))


def fresh_state(subject: Subject, rule: OptimizerRule | None, device: torch.device, seed: int) -> StepState:
    """Return the state before the first step, on a device."""

    def moved(named: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {name: tensor.detach().to(device, copy=True) for name, tensor in named.items()}

    tensors = {
        "parameters": moved(dict(subject.model.named_parameters())),
        "buffers": moved(dict(subject.model.named_buffers())),
        "batch": moved({str(place): each for place, each in enumerate(subject.batch)}),
    }
    for moment in rule.moments if rule else ():
        tensors[moment] = {name: torch.zeros_like(each) for name, each in tensors["parameters"].items()}
    return StepState(tensors, 0, seed)


def model_in(subject: Subject, state: StepState) -> nn.Module:
    """Return a copy of a subject's model that holds the very tensors of a state."""
    model = copy.deepcopy(subject.model)
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    for name, tensor in (state.tensors["parameters"] | state.tensors["buffers"]).items():
        named[name].data = tensor
    return model
