"""Noisy top-k gating with importance and load losses (Shazeer et al. 2017, "Outrageously Large Neural Networks")."""

import torch
from torch import nn
from torch.nn import functional

from moe_replay.collect.gates.gate_result import ExpertsPerRow, Selection, choose


class NoisyTopK(nn.Module):
    """The paper's gate: H = x W_g + N(0,1) * softplus(x W_n), weights = softmax over the top k of H.

    Both matrices start at zero, as in the paper, so that training begins with equal expert load. Outside training no
    noise is drawn. Losses: w_importance * CV(sum of weights)^2 + w_load * CV(smooth load)^2, CV with ddof 0.
    """

    NOISE_FLOOR = 1e-2  # keeps P(x, i) defined where softplus(x W_n) vanishes

    renormalised = True  # weights of the chosen sum to one

    def __init__(self, width: int, experts: int, w_importance: float, w_load: float, k: int = 4) -> None:
        super().__init__()
        self.clean = nn.Parameter(torch.zeros(width, experts))
        self.noise = nn.Parameter(torch.zeros(width, experts))
        self.w_importance, self.w_load, self.k = w_importance, w_load, k

    def logits(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the clean logits [N, E]."""
        return x_NM @ self.clean

    def forward(
        self, x_NM: torch.Tensor, k: ExpertsPerRow | None = None, generator: torch.Generator | None = None
    ) -> Selection:
        """Return the k best experts (default: the gate's own k; rules only outside training)."""
        k = k or self.k
        clean_NE = self.logits(x_NM)
        if not self.training:
            return Selection(*choose(clean_NE, k), clean_NE.new_zeros(()))
        deviation_NE = functional.softplus(x_NM @ self.noise) + self.NOISE_FLOOR
        normal_NE = torch.empty_like(clean_NE).normal_(generator=generator)
        noisy_NE = clean_NE + normal_NE * deviation_NE
        weights_NK, experts_NK = choose(noisy_NE, k)
        importance_E = clean_NE.new_zeros(clean_NE.shape[1]).index_add(0, experts_NK.flatten(), weights_NK.flatten())
        loss = self.w_importance * cv_squared(importance_E)
        if k < clean_NE.shape[1]:
            load_E = chosen_probability(clean_NE, noisy_NE, deviation_NE, k).sum(0)
            loss = loss + self.w_load * cv_squared(load_E)
        return Selection(weights_NK, experts_NK, loss)


def chosen_probability(
    clean_NE: torch.Tensor, noisy_NE: torch.Tensor, deviation_NE: torch.Tensor, k: int
) -> torch.Tensor:
    """Return P(x, i) [N, E]: the chance that expert i is among the top k if only its own noise is drawn again.

    The threshold is the k-th largest noisy logit with expert i left out: the (k+1)-th of all for those inside the
    top k, the k-th of all for those outside. Needs k < E.
    """
    top_N = noisy_NE.topk(k + 1, dim=1).values
    inside_NE = noisy_NE > top_N[:, k : k + 1]
    threshold_NE = torch.where(inside_NE, top_N[:, k : k + 1], top_N[:, k - 1 : k])
    return torch.special.ndtr((clean_NE - threshold_NE) / deviation_NE)


def cv_squared(values_E: torch.Tensor) -> torch.Tensor:
    """Return the squared coefficient of variation, variance / mean^2, of non-negative values."""
    return values_E.var(unbiased=False) / (values_E.mean() ** 2 + 1e-10)
