"""Plain top-k: the k most probable experts of a softmax router, the fixed-K twin of the dynamic-K gates."""

import torch

from moe_replay.collect.gates.dynamic_k_gate import DynamicK


class TopK(DynamicK):
    """Same router, balance loss and weights (normalised over the chosen) as the dynamic-K gates, but always k experts.

    What a dynamic-K gate is to be compared with: noisy top-k differs from it in more than K.
    """

    def __init__(
        self, width: int, experts: int, generator: torch.Generator, k: int = 4, w_balance: float = 1e-2,
        w_size: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(width, experts, k, w_balance, w_size, generator)
