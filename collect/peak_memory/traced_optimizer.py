"""A torch optimizer's step as operations that a graph can hold: the number of steps and the learning rate are tensors.

torch's own `step` is traced, one parameter after another, so that each update may run as soon as its gradient is there.
It runs in the form that keeps the number of steps on the device (`capturable`), the one that reads no number out of a
tensor.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from unittest import mock

import torch

from moe_replay.traces.errors import InputError

STATES = {torch.optim.SGD: "SGD", torch.optim.Adam: "Adam", torch.optim.AdamW: "AdamW"}
RATE = "lr"  # the one setting that may change from step to step
OWN_FORM = ("params", RATE, "foreach", "fused", "capturable")  # settings that the traced form has its own values for


def check_optimizer(optimizer: torch.optim.Optimizer) -> None:
    """Refuse optimizers whose traced step would not be theirs; InputError in one line."""
    if type(optimizer) not in STATES:
        kind = type(optimizer).__name__
        raise InputError(f"compile_step: optimizer {kind}, allowed {', '.join(STATES.values())} of torch.optim")
    if optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks:
        raise InputError("compile_step: the optimizer has step hooks, which a graph would leave out; allowed: none")
    for group in optimizer.param_groups:
        if group.get("differentiable"):
            raise InputError("compile_step: the optimizer is differentiable, allowed: differentiable=False")


def begin_state(optimizer: torch.optim.Optimizer) -> None:
    """Give every parameter the state that it has before its first step, where it has none: the graph works on it."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if state or not parameter.requires_grad:
                continue
            if isinstance(optimizer, torch.optim.SGD):
                if group["momentum"] and group["dampening"]:  # torch leaves it out in the first step, a graph cannot
                    raise InputError("compile_step: SGD with dampening before its first step; allowed: dampening=0, or "
                                     "take one step without compile_step")  # fmt: skip
                if group["momentum"]:
                    state["momentum_buffer"] = zeros_like(parameter)
            else:
                moments = ("exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else []))
                state["step"] = torch.zeros((), dtype=torch.float32)
                state.update({name: zeros_like(parameter) for name in moments})


def zeros_like(parameter: torch.Tensor) -> torch.Tensor:
    """Return zeros of a parameter's shape and strides."""
    return torch.zeros_like(parameter, memory_format=torch.preserve_format)


def state_names(optimizer: torch.optim.Optimizer) -> list[tuple[torch.Tensor, str]]:
    """Return (parameter, name) of every tensor of the optimizer's state, in a fixed order."""
    return [
        (parameter, name)
        for group in optimizer.param_groups
        for parameter in group["params"]
        for name, each in sorted(optimizer.state[parameter].items())
        if isinstance(each, torch.Tensor)
    ]


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict]:
    """Return what of each group's settings becomes part of a graph; what a scheduler notes in groups is none of it."""
    names = [name for name in optimizer.defaults if name not in OWN_FORM]
    return [{name: group[name] for name in names} for group in optimizer.param_groups]


def traced_step(
    optimizer: torch.optim.Optimizer, parameters: dict[torch.Tensor, torch.Tensor],
    state: dict[tuple[torch.Tensor, str], torch.Tensor], rates: Sequence[torch.Tensor],
) -> None:  # fmt: skip
    """Take the optimizer's step on other tensors in the place of its own: those that a graph is traced with.

    `parameters`: {its own: the traced one, whose `.grad` is set}; `state`: {(its own, name): the traced tensor};
    `rates`: one scalar per group.
    """
    twin = copy.copy(optimizer)
    twin.state = defaultdict(dict)
    for (parameter, name), tensor in state.items():
        twin.state[parameters[parameter]][name] = tensor
    twin.param_groups = []
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        own = {"foreach": False, "fused": None}
        if "capturable" in group:
            own["capturable"] = True
        # A rate that asks for a gradient takes SGD through the branch that multiplies by it instead of reading it.
        own[RATE] = rate.detach().requires_grad_()
        own["params"] = [parameters[each] for each in group["params"] if each in parameters]
        twin.param_groups.append({**group, **own})
    # Outside of a compiler `capturable` is refused on a CPU.
    with mock.patch.object(torch.compiler, "_is_compiling_flag", True):
        twin.step()
