"""A whole training iteration as one graph of torch's operations: forward, backward and optimizer under make_fx.

Every operation is marked with its phase and, where it draws random numbers, with the state of the generator that it
drew from: what is computed again by a checkpoint draws what was drawn before, in any order of the operations.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.func import functional_call
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from moe_replay.collect.graphs.random_draws import DRAWN_FROM, draws, generator_states
from moe_replay.collect.graphs.step_optimizers import OptimizerRule
from moe_replay.collect.graphs.step_state import StepState
from moe_replay.collect.graphs.step_subjects import Subject
from moe_replay.traces.errors import InputError

PHASE = "phase"  # key in a node's `meta`


class Recorder(TorchDispatchMode):
    """Marks the nodes that the operations within it make."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = "forward"

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        state = None
        if draws(func, args, kwargs):
            state = generator_states(args, kwargs)
        result = func(*args, **(kwargs or {}))
        for node in reversed(get_proxy_mode().tracer.graph.nodes):
            if PHASE in node.meta:
                break
            # A backward pass runs without gradients, but for what a checkpoint computes again in the midst of it.
            again = self.phase == "backward" and torch.is_grad_enabled()
            node.meta[PHASE] = "recomputation" if again else self.phase
            if state is not None:
                node.meta[DRAWN_FROM] = state
        return result


class WholeStep(nn.Module):
    """An iteration up to its gradients. Its parameters are replaced from outside while all of it runs: what a
    checkpoint computes again in the backward pass would take the weights for constants otherwise."""

    def __init__(self, subject: Subject) -> None:
        super().__init__()
        self.model, self.loss = subject.model, subject.loss

    def forward(
        self, batch: list[torch.Tensor], leaves: list[torch.Tensor], recorder: Recorder
    ) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
        """Return (loss, its gradients by the leaves, None for a leaf without influence)."""
        loss = self.loss(self.model, *batch)
        recorder.phase = "backward"
        with torch.no_grad():  # made here: the engine would make it with gradients on, as a checkpoint does
            one = torch.ones_like(loss)
        return loss.detach(), torch.autograd.grad(loss, leaves, one, allow_unused=True)


def iteration_of(subject: Subject, rule: OptimizerRule | None, state: StepState) -> Callable[..., list[torch.Tensor]]:
    """Return the function of a state's tensors, one by one, that takes the step after it in place.

    It returns what outlives it: the loss and, without an optimizer, the gradients.
    """
    whole = WholeStep(subject)

    def iteration(*flat: torch.Tensor) -> list[torch.Tensor]:
        tensors, recorder = state.named(flat), Recorder()
        parameters = tensors["parameters"]
        with recorder:
            leaves = {name: parameters[name].detach().requires_grad_() for name in trained(subject.model)}
            given = {f"model.{name}": each for name, each in (parameters | tensors["buffers"] | leaves).items()}
            batch = list(tensors["batch"].values())
            loss, gradients = functional_call(whole, given, (batch, list(leaves.values()), recorder))
            found = {name: each for name, each in zip(leaves, gradients, strict=True) if each is not None}
            recorder.phase = "optimizer"
            if rule is None:
                return [loss, *found.values()]
            with torch.no_grad():
                for name, gradient in found.items():
                    rule.update(
                        parameters[name], gradient, [tensors[each][name] for each in rule.moments], state.steps + 1
                    )
            return [loss]

    return iteration


def trained(model: nn.Module) -> list[str]:
    """Return the names of the parameters that have gradients."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def trace_step(subject: Subject, rule: OptimizerRule | None, state: StepState) -> fx.GraphModule:
    """Return the graph of the iteration that follows a state, whose tensors stay as they are.

    Routing that the model reads out of tensors (`tolist`) is fixed as it is for this state. InputError where it reads
    a number in a way that no graph can hold (`item`, `int`), or does anything else that cannot be traced.
    """
    iteration = iteration_of(subject, rule, state)
    try:
        with state.seeded():
            traced = make_fx(iteration, tracing_mode="real")(*state.copied().flat)
    except InputError:
        raise
    except Exception as error:  # whatever a user's model does, and whatever torch says of it
        raise InputError(f"{subject.name}: cannot be captured: {reason_of(error)}") from error
    traced.graph.eliminate_dead_code()
    return traced


def reason_of(error: Exception) -> str:
    """Return in a line why a model cannot be traced."""
    said = str(error).strip()
    if "tracing tensor" in said:
        return "it reads a number out of a tensor (item, int, a truth value); allowed: tolist, or none"
    if "checkpoint" in said.lower() and ".grad" in said:
        return "a checkpoint with use_reentrant=True; allowed: use_reentrant=False"
    return f"{type(error).__name__}: {said.splitlines()[0] if said else ''}"
