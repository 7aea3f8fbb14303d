"""The experts of published models: gated perceptrons without biases, stacked per layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional


class GatedExperts(nn.Module):
    """E gated perceptrons of equal shape: (silu(x Wg) * (x Wu)) Wd. Wg and Wu are one matrix, as servers keep them.

    Weights are drawn on the device they will stay on, with the spread of a trained layer (1 / sqrt(inputs)). A row of a
    running expert holds `INNER` times H values beside its input and output.
    """

    INNER = 3  # gate and up side by side, and the product that goes down

    def __init__(
        self, experts: int, width: int, hidden: int, dtype: torch.dtype, device: torch.device,
        generator: torch.Generator,
    ) -> None:  # fmt: skip
        super().__init__()

        def drawn(*shape: int) -> nn.Parameter:
            weights = torch.empty(shape, dtype=dtype, device=device)
            return nn.Parameter(weights.normal_(std=shape[1] ** -0.5, generator=generator), requires_grad=False)

        self.gate_up_EMH, self.down_EHM = drawn(experts, width, 2 * hidden), drawn(experts, hidden, width)

    def __len__(self) -> int:
        return len(self.gate_up_EMH)

    @property
    def outputs(self) -> int:
        """The width of an expert's output."""
        return self.down_EHM.shape[2]

    @property
    def stacks(self) -> tuple[torch.Tensor, ...]:
        """The stacked weights, in the order that `compute` takes them: [E, ...] each."""
        return self.gate_up_EMH, self.down_EHM

    @property
    def expert_bytes(self) -> int:
        """Bytes of one expert's weights."""
        return sum(stack[0].nbytes for stack in self.stacks)

    @staticmethod
    def compute(x_NM: torch.Tensor, gate_up_MH: torch.Tensor, down_HM: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, M] of one expert for inputs [N, M]."""
        gate_NH, up_NH = (x_NM @ gate_up_MH).chunk(2, dim=1)
        return functional.silu(gate_NH).mul_(up_NH) @ down_HM

    @property
    def width(self) -> int:
        """The width of a token."""
        return self.gate_up_EMH.shape[1]

    @property
    def hidden(self) -> int:
        """The width inside an expert."""
        return self.down_EHM.shape[1]

    def runners(self) -> list[Callable[[torch.Tensor], torch.Tensor]]:
        """Return one function per expert, inputs [N, M] -> outputs [N, M]."""
        stacks = (stack.unbind() for stack in self.stacks)
        return [lambda x_NM, tensors=tensors: self.compute(x_NM, *tensors) for tensors in zip(*stacks, strict=True)]

    def run_each(self, inputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the outputs of every expert that has rows, for its own batch `inputs[e]` [N_e, M]."""
        return [run(part) for part, run in zip(inputs, self.runners(), strict=True) if len(part)]

    def run(self, expert: int, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the outputs [N, M] of one expert for a batch of inputs."""
        return self.compute(x_NM, self.gate_up_EMH[expert], self.down_EHM[expert])
