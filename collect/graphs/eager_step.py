"""An iteration as torch runs it by itself: what its peak is measured against, and what its results must equal."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from moe_replay.collect.devices import synchronise
from moe_replay.collect.graphs.allocator_watch import watch_on
from moe_replay.collect.graphs.step_optimizers import OptimizerRule
from moe_replay.collect.graphs.step_state import StepState, fresh_state, model_in
from moe_replay.collect.graphs.step_subjects import Subject


@dataclass(frozen=True)
class EagerRun:
    """The state after an iteration, its loss and gradients (where no optimizer used them up), peak and time.

    `peak`: bytes of the allocator above what was there before; `seconds`: with the allocator watched.
    """

    state: StepState
    loss: torch.Tensor
    gradients: tuple[torch.Tensor, ...]
    peak: int
    seconds: float


def run_eager(subject: Subject, rule: OptimizerRule | None, state: StepState) -> EagerRun:
    """Run the iteration that follows a state, which stays as it is."""
    own = state.copied()
    model = model_in(subject, own)
    optimizer = torch_optimizer(model, rule, own) if rule else None
    batch = tuple(own.tensors["batch"].values())
    device = batch[0].device
    synchronise(device)
    with own.seeded(), watch_on(device) as watch:
        started = time.perf_counter()
        loss = subject.loss(model, *batch)
        loss.backward()
        if optimizer is not None:
            optimizer.step()
        synchronise(device)
        seconds = time.perf_counter() - started
    gradients = tuple(each.grad for each in model.parameters() if each.grad is not None) if rule is None else ()
    return EagerRun(StepState(own.tensors, own.steps + 1, own.seed), loss.detach(), gradients, watch.peak, seconds)


def torch_optimizer(model: torch.nn.Module, rule: OptimizerRule, state: StepState) -> torch.optim.Optimizer:
    """Return torch's optimizer over a model that holds a state's tensors, with the state's own moments."""
    optimizer = rule.build([each for each in model.parameters() if each.requires_grad])
    if rule.moments:
        for name, parameter in model.named_parameters():
            optimizer.state[parameter] = {
                "step": torch.tensor(float(state.steps)), **{each: state.tensors[each][name] for each in rule.moments}
            }  # fmt: skip
    return optimizer


def warmed_state(subject: Subject, rule: OptimizerRule | None, device: torch.device, seed: int) -> StepState:
    """Return the state after one step: moments are no longer zero, and kernels have been chosen."""
    return run_eager(subject, rule, fresh_state(subject, rule, device, seed)).state
