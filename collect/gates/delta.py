"""Delta gating (delta-MoE): experts whose probability is within a factor delta of the best one's."""

import torch

from moe_replay.collect.gates.dynamic_k_gate import DynamicK
from moe_replay.traces.k_rules import KRule


class Delta(DynamicK):
    """K is small where one expert stands out; weights are normalised over the chosen."""

    def __init__(
        self, width: int, experts: int, generator: torch.Generator, factor: float = 0.5, most: int | None = None,
        w_balance: float = 1e-2, w_size: float = 1e-3,
    ) -> None:  # fmt: skip
        super().__init__(width, experts, KRule("delta", factor, most), w_balance, w_size, generator)
