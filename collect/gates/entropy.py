"""Entropy gating: the flatter the router's distribution, the more experts. A baseline of ours, no paper."""

import torch

from moe_replay.collect.gates.dynamic_k_gate import DynamicK
from moe_replay.traces.k_rules import KRule


class Entropy(DynamicK):
    """K = 1 + round((K_max - 1) H(p) / ln E); weights are normalised over the chosen."""

    def __init__(
        self, width: int, experts: int, generator: torch.Generator, k_max: float = 4.0, most: int | None = None,
        w_balance: float = 1e-2, w_size: float = 1e-3,
    ) -> None:  # fmt: skip
        super().__init__(width, experts, KRule("entropy", k_max, most), w_balance, w_size, generator)
