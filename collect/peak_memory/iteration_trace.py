"""A whole training iteration of a user's model as one graph: forward, backward and optimizer, for any batch of a shape.

It is traced with tensors that have shapes and no values, so that nothing that depends on values can slip into the graph
as a constant: what reads a value is refused, with the line of the model that does it.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from moe_replay.collect.graphs.random_draws import draws
from moe_replay.collect.peak_memory.traced_optimizer import state_names, traced_step
from moe_replay.traces.errors import InputError

LossOf = Callable[..., torch.Tensor]  # loss(model, *batch), a scalar
OUTSIDE = "Please convert all Tensors to FakeTensors first"  # torch's words for a tensor that has values


def loss_and_gradients(
    model: nn.Module, loss_of: LossOf, batch: Sequence[torch.Tensor], leaves: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, tuple[torch.Tensor | None, ...]]:
    """Return (loss, its gradients by the leaves; None for one without influence)."""
    loss = loss_of(model, *batch)
    if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
        raise InputError(f"compile_step: the loss is {described(loss)}, allowed a tensor of one element")
    return loss.detach(), torch.autograd.grad(loss.sum(), leaves, allow_unused=True)


@contextmanager
def holding(model: nn.Module, given: dict[torch.Tensor, torch.Tensor]) -> Iterator[None]:
    """Have a model hold other tensors, {its own: the other}, wherever its modules name its own; then its own again.

    Until the gradients are there: a layer that a checkpoint runs again in the backward pass would take its weights for
    constants otherwise.
    """
    places = [
        (held, name, own)
        for module in model.modules()
        for held in (module._parameters, module._buffers)
        for name, own in held.items()
        if own is not None
    ]
    for held, name, own in places:
        held[name] = given[own]
    try:
        yield
    finally:
        for held, name, own in places:
            held[name] = own


def described(value: object) -> str:
    """Return what a value is, in a word or two."""
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__


class Iteration:
    """Which tensors an iteration reads and changes, in the order in which its graph takes them."""

    def __init__(self, model: nn.Module, loss: LossOf, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.loss, self.optimizer = model, loss, optimizer
        # One per group, kept: a new one at every step would be memory above what is there before it.
        self.rates = [torch.zeros((), dtype=torch.float64) for _ in optimizer.param_groups]

    def inputs(self, batch: Sequence[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
        """Return the tensors by kind: parameters, buffers, optimizer state, learning rates, batch."""
        for rate, group in zip(self.rates, self.optimizer.param_groups, strict=True):
            rate.fill_(group["lr"])
        return {
            "parameters": list(self.model.parameters()),
            "buffers": list(self.model.buffers()),
            "state": [self.optimizer.state[parameter][name] for parameter, name in state_names(self.optimizer)],
            "rates": self.rates,
            "batch": list(batch),
        }

    def function(self, given: dict[str, list[torch.Tensor]]) -> Callable[..., torch.Tensor]:
        """Return the iteration as a function of all its tensors, one by one, which it changes; it returns the loss."""
        own, held = given["parameters"], state_names(self.optimizer)
        trained = {id(each) for group in self.optimizer.param_groups for each in group["params"] if each.requires_grad}

        def iteration(*flat: torch.Tensor) -> torch.Tensor:
            each = iter(flat)
            parts = {kind: [next(each) for _ in tensors] for kind, tensors in given.items()}
            traced = {
                real: tensor.detach().requires_grad_(id(real) in trained)
                for real, tensor in zip(own, parts["parameters"], strict=True)
            }
            leaves = [tensor for tensor in traced.values() if tensor.requires_grad]
            buffers = dict(zip(given["buffers"], parts["buffers"], strict=True))
            with holding(self.model, {**traced, **buffers}):
                loss, gradients = loss_and_gradients(self.model, self.loss, parts["batch"], leaves)
            for leaf, gradient in zip(leaves, gradients, strict=True):
                leaf.grad = gradient
            traced_step(self.optimizer, traced, dict(zip(held, parts["state"], strict=True)), parts["rates"])
            return loss

        return iteration

    def trace(self, batch: Sequence[torch.Tensor]) -> fx.GraphModule:
        """Return the graph for batches of this shape; InputError where a graph cannot hold the iteration."""
        given = self.inputs(batch)
        flat = [tensor for tensors in given.values() for tensor in tensors]
        try:
            # A mode of our own: the one that make_fx sets up lets values through as symbols.
            with FakeTensorMode() as values:
                traced = make_fx(self.function(given))(*map(values.from_tensor, flat))
        except DynamicOutputShapeException as error:
            raise refused(error, f"{error.func} returns a tensor whose size depends on values") from None
        except DataDependentOutputException as error:
            raise refused(error, "reads a value out of a tensor (item, tolist, a truth value)") from None
        except (AssertionError, RuntimeError) as error:
            raise self.explained(error) from None
        traced.graph.eliminate_dead_code()
        for node in traced.graph.nodes:
            if draws(node.target, node.args, node.kwargs):
                raise InputError(f"compile_step: {node.target} draws random numbers, which a checkpoint would draw "
                                 "anew; draw them outside and pass them with the batch")  # fmt: skip
        return traced

    def explained(self, error: Exception) -> Exception:
        """Return a refusal for what torch says of known kinds, any other error as it is."""
        text = str(error)
        if OUTSIDE in text:
            return refused(error, "uses a tensor that is no parameter, buffer or batch: it would become a constant")
        if "not compatible with .grad()" in text or "use_reentrant" in text:
            return refused(error, "a checkpoint with use_reentrant=True; allowed: use_reentrant=False")
        return error


def refused(error: BaseException, why: str) -> InputError:
    """Return the refusal of an iteration, with the user's line where tracing failed."""
    return InputError(f"compile_step: {place_of(error.__traceback__)}{why}, which a graph cannot hold")


def place_of(trace: TracebackType | None) -> str:
    """Return `FILE:LINE: ` of the innermost frame that is neither torch's nor this module's, or nothing."""
    libraries = Path(torch.__file__).parent
    for frame in reversed(traceback.extract_tb(trace)):
        path = Path(frame.filename)
        if path != Path(__file__) and libraries not in path.parents and path.suffix == ".py" and path.exists():
            return f"{path.name}:{frame.lineno}: "
    return ""
