"""Random routing: an expert is drawn, not chosen (after AdaMix, Wang et al. 2022, arXiv 2205.12410)."""

import torch
from torch import nn

from moe_replay.collect.gates.gate_result import ExpertsPerRow, Selection


class RandomRouting(nn.Module):
    """One uniformly drawn expert per pass and layer for the whole batch (AdaMix), or per token; weight 1, no router.

    Outside training the draws go on, from the generator given; a deterministic evaluation averages the experts'
    weights into one expert instead (`collect.models.expert_averaging`).
    """

    def __init__(self, experts: int, per_token: bool = False) -> None:
        super().__init__()
        self.experts, self.per_token = experts, per_token

    def logits(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return equal logits [N, E]: every expert is as likely."""
        return x_NM.new_zeros(len(x_NM), self.experts)

    def forward(
        self, x_NM: torch.Tensor, k: ExpertsPerRow | None = None, generator: torch.Generator | None = None
    ) -> Selection:
        """Return the drawn experts [N, 1]; `k` has no meaning here."""
        drawn = torch.randint(
            self.experts, (len(x_NM) if self.per_token else 1, 1), generator=generator, device=x_NM.device
        )
        experts_N1 = drawn.expand(len(x_NM), 1)
        return Selection(x_NM.new_ones(len(x_NM), 1), experts_N1, x_NM.new_zeros(()))
