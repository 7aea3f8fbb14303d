"""GShard's top-2 gate with a random second choice (Lepikhin et al. 2021, "GShard", algorithm 1)."""

import torch
from torch import nn

from moe_replay.collect.gates.balance_losses import switch_balance
from moe_replay.collect.gates.gate_result import ExpertsPerRow, Selection
from moe_replay.traces.errors import InputError


class GShardTop2(nn.Module):
    """The two most probable experts with weights normalised over the two, g1 + g2 = 1.

    In training the second is kept with probability min(1, 2 g2): a second choice that would hardly count is usually
    not sent, which saves capacity. Outside training it is always kept. Where it is not, the first keeps its weight g1.
    Loss: `alpha` times the balance loss over the *first* choices.
    """

    def __init__(self, width: int, experts: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        if experts < 2:
            raise InputError(f"gshard: experts is {experts}, allowed >= 2")
        self.router = nn.Parameter((torch.rand(width, experts, generator=generator) * 2 - 1) * 0.1 / width**0.5)
        self.alpha = alpha

    def logits(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the router's logits [N, E]."""
        return x_NM @ self.router

    def forward(
        self, x_NM: torch.Tensor, k: ExpertsPerRow | None = None, generator: torch.Generator | None = None
    ) -> Selection:
        """Return both choices; the second one's slot is empty where it was not kept. `k` has no meaning here."""
        probability_NE = self.logits(x_NM).softmax(1)
        top_N2, experts_N2 = probability_NE.topk(2, dim=1)
        weights_N2 = top_N2 / top_N2.sum(1, keepdim=True)
        if not self.training:
            return Selection(weights_N2, experts_N2, x_NM.new_zeros(()))
        drawn_N = torch.empty_like(weights_N2[:, 1]).uniform_(generator=generator)
        left_N2 = torch.stack([torch.zeros_like(drawn_N, dtype=torch.bool), 2 * weights_N2[:, 1] < drawn_N], dim=1)
        loss = self.alpha * switch_balance(probability_NE, experts_N2[:, :1])
        return Selection(weights_N2.masked_fill(left_N2, 0), experts_N2.masked_fill(left_N2, -1), loss)
