"""What all gates with a dynamic number of experts share: a softmax router, a rule, a balance and a size loss."""

import torch
from torch import nn

from moe_replay.collect.gates.balance_losses import mean_entropy, switch_balance
from moe_replay.collect.gates.gate_result import ExpertsPerRow, Selection, choose
from moe_replay.traces.k_rules import KRule


class DynamicK(nn.Module):
    """A softmax router whose number of experts per row follows `rule` (a whole number: always as many).

    Loss in training: w_balance * (Switch's balance loss over all selections) + w_size * (mean entropy of the
    router's distribution), the size regulariser: peaked distributions choose fewer experts.
    """

    def __init__(
        self, width: int, experts: int, rule: KRule | int, w_balance: float, w_size: float, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.router = nn.Parameter((torch.rand(width, experts, generator=generator) * 2 - 1) * 0.1 / width**0.5)
        self.renormalised = True if isinstance(rule, int) else rule.renormalised
        self.rule, self.w_balance, self.w_size = rule, w_balance, w_size

    def logits(self, x_NM: torch.Tensor) -> torch.Tensor:
        """Return the router's logits [N, E]."""
        return x_NM @ self.router

    def forward(
        self, x_NM: torch.Tensor, k: ExpertsPerRow | None = None, generator: torch.Generator | None = None
    ) -> Selection:
        """Return the selection by the gate's own rule, or by `k` where given; nothing is drawn from `generator`."""
        logits_NE = self.logits(x_NM)
        weights_NK, experts_NK = choose(logits_NE, k or self.rule, self.renormalised)
        if not self.training:
            return Selection(weights_NK, experts_NK, logits_NE.new_zeros(()))
        probability_NE = logits_NE.softmax(1)
        loss = self.w_balance * switch_balance(probability_NE, experts_NK) + self.w_size * mean_entropy(probability_NE)
        return Selection(weights_NK, experts_NK, loss)
