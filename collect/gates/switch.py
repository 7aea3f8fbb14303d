"""Switch routing: one expert per token, weighted by its probability (Fedus et al. 2022, "Switch Transformers")."""

import torch
from torch import nn

from moe_replay.collect.gates.balance_losses import switch_balance
from moe_replay.collect.gates.gate_result import ExpertsPerRow, Selection, choose


class Switch(nn.Module):
    """The most probable expert; in training its input is jittered by factors of 1 +- `jitter`.

    The weight is the probability over all E, so that the router learns although only one expert runs. Loss: `alpha`
    times the balance loss, whose least value under even routing is 1.
    """

    renormalised = False  # the weight stays a probability over all experts

    def __init__(
        self, width: int, experts: int, alpha: float, generator: torch.Generator, jitter: float = 1e-2
    ) -> None:
        super().__init__()
        self.router = nn.Parameter((torch.rand(width, experts, generator=generator) * 2 - 1) * 0.1 / width**0.5)
        self.alpha, self.jitter = alpha, jitter

    def logits(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the router's logits [N, E]."""
        return x_NM @ self.router

    def forward(
        self, x_NM: torch.Tensor, k: ExpertsPerRow | None = None, generator: torch.Generator | None = None
    ) -> Selection:
        """Return each row's best expert, or more by `k`, weighted by probability over all E."""
        if self.training and self.jitter:
            factor_NM = torch.empty_like(x_NM).uniform_(1 - self.jitter, 1 + self.jitter, generator=generator)
            x_NM = x_NM * factor_NM
        logits_NE = self.logits(x_NM)
        weights_NK, experts_NK = choose(logits_NE, k or 1, self.renormalised)
        if not self.training:
            return Selection(weights_NK, experts_NK, x_NM.new_zeros(()))
        probability_NE = logits_NE.softmax(1)
        return Selection(weights_NK, experts_NK, self.alpha * switch_balance(probability_NE, experts_NK))
