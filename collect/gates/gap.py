"""Adaptive gating: one expert where the best leads clearly, else two (arXiv 2310.07188)."""

import torch

from moe_replay.collect.gates.dynamic_k_gate import DynamicK
from moe_replay.traces.k_rules import KRule


class Gap(DynamicK):
    """The lead is p1 - p2; weights are normalised over the chosen."""

    def __init__(
        self, width: int, experts: int, generator: torch.Generator, threshold: float = 0.25, most: int | None = None,
        w_balance: float = 1e-2, w_size: float = 1e-3,
    ) -> None:  # fmt: skip
        super().__init__(width, experts, KRule("gap", threshold, most), w_balance, w_size, generator)
