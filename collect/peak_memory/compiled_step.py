"""`compile_step`: a whole training iteration that inductor compiles as one graph, the optimizer between the gradients.

torch.compile makes a graph of the forward pass and one of the backward pass, and the optimizer comes after both: every
gradient waits for the last one. In one graph a parameter is updated, and its gradient freed, as soon as it is there.
"""

from collections.abc import Callable

import torch
from torch import nn

from moe_replay.collect.peak_memory.inductor_pass import check_version
from moe_replay.collect.peak_memory.iteration_trace import Iteration, LossOf
from moe_replay.collect.peak_memory.traced_optimizer import begin_state, check_optimizer, settings_of
from moe_replay.traces.errors import InputError


def compile_step(model: nn.Module, loss: LossOf, optimizer: torch.optim.Optimizer) -> "CompiledStep":
    """Return `step(*batch)`, which takes one training step in place and returns the loss.

    `loss(model, *batch)` is the scalar whose gradients are taken; the batch is tensors. The step is traced and compiled
    at its first call, and again for batches of another shape: call it within `peak_memory_pass` to have its operations
    ordered. Parameters, buffers and the optimizer's state are changed as `optimizer.step()` would change them, to
    rounding: kernels and orders of sums are inductor's. Gradients are not kept. The learning rate may change between
    steps.

    InputError for what one graph cannot hold: sizes or branches that depend on values (`item`, `tolist`, `bincount`),
    random numbers, hooks, gradients that wait to be added to, optimizers other than SGD, Adam and AdamW, and another
    version of torch. What plain Python counts or changes within the model is fixed as it is when it is traced.
    """
    check_version("compile_step")
    check_optimizer(optimizer)
    return CompiledStep(Iteration(model, loss, optimizer))


class CompiledStep:
    """A training step that is compiled for each shape of batch when it comes."""

    def __init__(self, iteration: Iteration) -> None:
        self.iteration = iteration
        self.settings = settings_of(iteration.optimizer)
        self.compiled: dict[object, Callable[..., torch.Tensor]] = {}
        self.check_parameters()
        begin_state(iteration.optimizer)

    def __call__(self, *batch: torch.Tensor) -> torch.Tensor:
        """Take a step; return the loss. InputError for what would make another step of it."""
        self.check_call(batch)
        key = self.key(batch)
        if key not in self.compiled:
            self.compiled[key] = self.compile(batch)
        flat = [tensor for tensors in self.iteration.inputs(batch).values() for tensor in tensors]
        with torch.no_grad():
            return self.compiled[key](*flat)

    def compile(self, batch: tuple[torch.Tensor, ...]) -> Callable[..., torch.Tensor]:
        """Return the compiled iteration for batches of this shape."""
        graph = self.iteration.trace(batch)
        flat = [tensor for tensors in self.iteration.inputs(batch).values() for tensor in tensors]
        with torch.no_grad():
            return torch._inductor.compile(graph, flat)

    def key(self, batch: tuple[torch.Tensor, ...]) -> object:
        """Return what a graph was traced for: shapes, modes of modules, which parameters are trained, autocast."""
        model = self.iteration.model
        return (
            tuple((each.shape, each.stride(), each.dtype, each.device) for each in batch),
            tuple(module.training for module in model.modules()),
            tuple(each.requires_grad for each in model.parameters()),
            tuple(torch.is_autocast_enabled(kind) for kind in ("cpu", "cuda")),
        )

    def check_parameters(self) -> None:
        """Refuse an optimizer of other parameters than the model's, and hooks on gradients."""
        own = {id(each) for each in self.iteration.model.parameters()}
        for group in self.iteration.optimizer.param_groups:
            if any(id(each) not in own for each in group["params"]):
                raise InputError("compile_step: the optimizer has parameters that are not the model's")
        for name, each in self.iteration.model.named_parameters():
            if each._backward_hooks or each._post_accumulate_grad_hooks:
                raise InputError(f"compile_step: parameter {name} has a gradient hook, which a graph would leave out")

    def check_call(self, batch: tuple[torch.Tensor, ...]) -> None:
        """Refuse a batch that is no tensors, settings that have changed, and gradients that are there already."""
        for place, each in enumerate(batch):
            if not isinstance(each, torch.Tensor):
                raise InputError(f"compile_step: batch[{place}] is a {type(each).__name__}, allowed a tensor")
        if settings_of(self.iteration.optimizer) != self.settings:
            raise InputError("compile_step: the optimizer's settings have changed; allowed: another lr, or "
                             "compile_step anew")  # fmt: skip
        for name, each in self.iteration.model.named_parameters():
            if each.grad is not None:
                raise InputError(f"compile_step: {name} has a gradient, which the step would leave out; call "
                                 "optimizer.zero_grad() before")  # fmt: skip
