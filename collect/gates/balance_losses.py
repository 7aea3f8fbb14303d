"""Training losses that gates share: even load, and small numbers of experts."""

import torch


def switch_balance(probability_NE: torch.Tensor, experts_NK: torch.Tensor) -> torch.Tensor:
    """Return E * sum_e f_e P_e: f the share of selections, P the mean probability (Switch, Fedus et al. 2022).

    With one expert per row this is the paper's loss without its factor alpha: 1 at uniform routing, its minimum where
    f follows P. With several, f is the share of all selections (slots of -1 do not count).
    """
    experts = probability_NE.shape[1]
    flat = experts_NK.flatten()
    # Not bincount, whose result's length depends on values: a compiler could not know it.
    counts = flat.new_zeros(experts + 1).index_add_(0, flat + 1, torch.ones_like(flat))
    counts_E = counts[1:].to(probability_NE.dtype)
    share_E = counts_E / counts_E.sum().clamp_min(1)
    return experts * (share_E * probability_NE.mean(0)).sum()


def mean_entropy(probability_NE: torch.Tensor) -> torch.Tensor:
    """Return the mean entropy (nats) of the rows' distributions: top-p's "dynamic loss" (arXiv 2403.07652).

    Less entropy means fewer experts under every rule that reads the probabilities.
    """
    return -(probability_NE * probability_NE.clamp_min(1e-30).log()).sum(1).mean()
