"""AdaMoE: null experts that cost nothing make the number of real ones per token vary (Zeng et al. 2024, 2406.13233)."""

import torch
from torch import nn

from moe_replay.collect.gates.balance_losses import switch_balance
from moe_replay.collect.gates.gate_result import ExpertsPerRow, Selection


class AdaMoE(nn.Module):
    """Top k over E real experts and `nulls` null ones; weights are normalised over the real ones among the k.

    Loss: alpha times the balance loss over all E + nulls columns in which every null expert counts with the nulls'
    mean load, so that only their total is steered. (The released code averages along the slots instead, which changes
    nothing where k <= E; the paper's text is followed here.) A row whose k best are all null gets no expert.
    """

    def __init__(self, width: int, experts: int, k: int, nulls: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.router = nn.Parameter((torch.rand(width, experts + nulls, generator=generator) * 2 - 1) * 0.1 / width**0.5)
        self.experts, self.k, self.nulls, self.alpha = experts, k, nulls, alpha

    def logits(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the real experts' logits [N, E]."""
        return x_NM @ self.router[:, : self.experts]

    def forward(
        self, x_NM: torch.Tensor, k: ExpertsPerRow | None = None, generator: torch.Generator | None = None
    ) -> Selection:
        """Return the real experts among the k best of all E + nulls, best first."""
        probability_NX = (x_NM @ self.router).softmax(1)
        top_NK, columns_NK = probability_NX.topk(k if isinstance(k, int) else self.k, dim=1)
        null_NK = columns_NK >= self.experts
        behind_NK = null_NK.to(torch.int8).argsort(dim=1, stable=True)  # nulls move behind, the order stays otherwise
        null_NK = null_NK.gather(1, behind_NK)
        weights_NK = top_NK.gather(1, behind_NK).masked_fill(null_NK, 0)
        weights_NK = weights_NK / weights_NK.sum(1, keepdim=True).clamp_min(1e-30)
        experts_NK = columns_NK.gather(1, behind_NK).masked_fill(null_NK, -1)
        if not self.training:
            return Selection(weights_NK, experts_NK, x_NM.new_zeros(()))
        return Selection(weights_NK, experts_NK, self.alpha * self.balance(probability_NX, columns_NK))

    def balance(self, probability_NX: torch.Tensor, columns_NK: torch.Tensor) -> torch.Tensor:
        """Return E + nulls times the sum over columns of f P, every null with the nulls' mean load."""
        real_N = probability_NX[:, : self.experts]
        mean_null_N1 = probability_NX[:, self.experts :].mean(1, keepdim=True)
        evened_NX = torch.cat([real_N, mean_null_N1.expand(-1, self.nulls)], dim=1)
        return switch_balance(evened_NX, columns_NK)
