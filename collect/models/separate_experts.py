"""Experts whose weights are parameters of their own each, in the place of stacks over all experts."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from moe_replay.collect.models.experts import Experts, perceptron


class SeparateExperts(nn.Module):
    """The experts of `Experts`, value for value, as one set of weights each.

    The gradient of a stack is whole when all experts' backward passes are done; here each expert's is whole, and may be
    used up, as soon as its own pass is.
    """

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.outputs = experts.outputs
        self.weights_E = nn.ModuleList(
            nn.ParameterList(nn.Parameter(stack[expert].detach().clone()) for stack in experts.stacks)
            for expert in range(len(experts))
        )

    def __len__(self) -> int:
        return len(self.weights_E)

    def runners(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Return one function per expert, inputs [N, M] -> outputs [N, O]."""
        return [lambda x_NM, weights=weights: perceptron(x_NM, *weights) for weights in self.weights_E]

    def run_each(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the outputs of every expert that has rows, for its own batch `inputs[e]` [N_e, M]."""
        return [run(part) for part, run in zip(inputs, self.runners(), strict=True) if len(part)]


def separate(model: nn.Module) -> nn.Module:
    """Replace the stacked experts in a model by separate ones of the same values, and return the model."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Experts):
                setattr(module, name, SeparateExperts(child))
    return model
