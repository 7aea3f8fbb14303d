"""The experts of one MoE layer: two-layer perceptrons of equal shape with their weights stacked."""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from moe_replay.simulate.policies.memory.expert_worth import EXPERT_NORMS


class Experts(nn.Module):
    """E two-layer perceptrons of equal shape, [width -> hidden -> outputs], with their weights stacked.

    Which rows an expert gets is a dispatch's business (`collect.dispatch`); here is what it computes of them. A row of
    a running expert holds `INNER` times H values beside its input and output.
    """

    INNER = 1

    def __init__(self, experts: int, width: int, hidden: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()

        def uniform(fan_in: int, *shape: int) -> nn.Parameter:
            return nn.Parameter((torch.rand(*shape, generator=generator) * 2 - 1) / fan_in**0.5)

        self.w1_EMH, self.b1_EH = uniform(width, experts, width, hidden), uniform(width, experts, hidden)
        self.w2_EHO, self.b2_EO = uniform(hidden, experts, hidden, outputs), uniform(hidden, experts, outputs)

    def __len__(self) -> int:
        return len(self.w1_EMH)

    @property
    def width(self) -> int:
        """The width of a token."""
        return self.w1_EMH.shape[1]

    @property
    def hidden(self) -> int:
        """The width inside an expert."""
        return self.w1_EMH.shape[2]

    @property
    def outputs(self) -> int:
        """The width of an expert's output."""
        return self.b2_EO.shape[1]

    @property
    def stacks(self) -> tuple[torch.Tensor, ...]:
        """The stacked weights, in the order that `compute` takes them: [E, ...] each."""
        return self.w1_EMH, self.b1_EH, self.w2_EHO, self.b2_EO

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert's weights."""
        return sum(parameter[0].nbytes for parameter in self.parameters())

    @staticmethod
    def compute(x_NM: torch.Tensor, *tensors: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, O] of one expert whose weights are `tensors`, one of each of `stacks`."""
        return perceptron(x_NM, *tensors)

    def run(self, expert: int, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, O] of one expert for a batch of inputs."""
        return perceptron(x_NM, self.w1_EMH[expert], self.b1_EH[expert], self.w2_EHO[expert], self.b2_EO[expert])

    def runners(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Return one function per expert, inputs [N, M] -> outputs [N, O].

        The stacks are unbound once: the gradient of indexing would be one zero tensor of the whole stack per expert.
        """
        stacks = (stack.unbind() for stack in self.stacks)
        return [lambda x_NM, tensors=tensors: perceptron(x_NM, *tensors) for tensors in zip(*stacks, strict=True)]

    def run_each(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the outputs of every expert that has rows, for its own batch `inputs[e]` [N_e, M]."""
        return [run(part) for part, run in zip(inputs, self.runners(), strict=True) if len(part)]


def perceptron(
    x_NM: torch.Tensor, w1_MH: torch.Tensor, b1_H: torch.Tensor, w2_HO: torch.Tensor, b2_O: torch.Tensor
) -> torch.Tensor:
    """Return relu(x w1 + b1) w2 + b2, shape [N, O]."""
    return torch.addmm(b2_O, torch.addmm(b1_H, x_NM, w1_MH).relu_(), w2_HO)


def expert_norms(experts_L: Sequence[Experts]) -> torch.Tensor:
    """Return the Frobenius norm of every expert's weights, [L, E]."""
    with torch.no_grad():
        squares = [sum(stack.flatten(1).square().sum(1) for stack in experts.stacks) for experts in experts_L]
        return torch.stack(squares).sqrt()


def noted_norms(experts_L: Sequence[Experts]) -> dict[str, list[list[float]]]:
    """Return the note by which a trace tells the norms of its model's experts: SwapMoE's importance needs them."""
    return {EXPERT_NORMS: [[float(f"{norm:.6g}") for norm in norm_E] for norm_E in expert_norms(experts_L).tolist()]}
