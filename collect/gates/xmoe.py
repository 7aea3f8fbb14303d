"""XMoE's threshold: experts until their cumulative probability reaches tau (arXiv 2403.18926)."""

import torch

from moe_replay.collect.gates.dynamic_k_gate import DynamicK
from moe_replay.traces.k_rules import KRule


class XMoE(DynamicK):
    """Differs from top-p only where a partial sum equals tau. The paper's capacity is a dispatch's business."""

    def __init__(
        self, width: int, experts: int, generator: torch.Generator, tau: float = 0.4, most: int | None = None,
        w_balance: float = 1e-2, w_size: float = 1e-3,
    ) -> None:  # fmt: skip
        super().__init__(width, experts, KRule("xmoe", tau, most), w_balance, w_size, generator)
