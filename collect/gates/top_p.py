"""Top-p gating: experts until their cumulative probability exceeds tau (Huang et al. 2024, arXiv 2403.07652)."""

import torch

from moe_replay.collect.gates.dynamic_k_gate import DynamicK
from moe_replay.traces.k_rules import KRule


class TopP(DynamicK):
    """Weights are the probabilities over all E, not renormalised; the router's entropy is its "dynamic loss"."""

    def __init__(
        self, width: int, experts: int, generator: torch.Generator, tau: float = 0.4, most: int | None = None,
        w_balance: float = 1e-2, w_size: float = 1e-3,
    ) -> None:  # fmt: skip
        super().__init__(width, experts, KRule("top-p", tau, most), w_balance, w_size, generator)
