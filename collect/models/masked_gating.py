"""Masked gating on a live model: selections of absent experts go to resident ones, or are dropped (SwapMoE).

Unlike in a replay, every layer's gate sees what the layers before it have made of the mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from moe_replay.collect.gates.gate_result import Selection, recorded_weights
from moe_replay.collect.models.experts import expert_norms


class MaskedGates:
    """Replaces a model's gates while it is used as a context: only the experts in `here_LE` may run.

    `redirect` takes the k best residents of a token, otherwise selections of absent experts are dropped; either way
    weights are a softmax over what runs where the gate's own are (`renormalised`). What the gates *selected* counts for
    the importance of experts, whether it could run or not: `importance_LE` sums |x| G(x) |E| (equation 1 of arXiv
    2308.15030), `chosen_LE` counts. `lost_mass` is the mean over tokens and layers of 1 - (gate mass of what ran) /
    (gate mass of what was selected).
    """

    def __init__(self, model: nn.Module, renormalised: bool, redirect: bool) -> None:
        config, device = model.config, next(model.parameters()).device
        self.gates, self.k, self.renormalised, self.redirect = model.gates, config.k, renormalised, redirect
        self.norm_LE = expert_norms(model.experts)
        shape = config.layers, config.experts
        self.here_LE = torch.ones(shape, dtype=torch.bool, device=device)
        self.importance_LE = torch.zeros(shape, dtype=torch.float64, device=device)
        self.chosen_LE = torch.zeros(shape, dtype=torch.float64, device=device)
        self.lost, self.rows = torch.zeros((), dtype=torch.float64, device=device), 0

    def __call__(self, layer: int, x_NM: torch.Tensor) -> Selection:
        """Return a layer's selection under the mask."""
        logits_NE, here_E = self.gates[layer].logits(x_NM), self.here_LE[layer]
        selected_NK = logits_NE.topk(self.k, dim=1).indices
        if self.redirect:
            best_NK = logits_NE.masked_fill(~here_E, -torch.inf).topk(self.k, dim=1).indices
        else:
            best_NK = selected_NK
        ran_NK = best_NK.masked_fill(~here_E[best_NK], -1)
        self._count(layer, x_NM, logits_NE.softmax(1), selected_NK, ran_NK)
        return Selection(
            recorded_weights(logits_NE, ran_NK, self.renormalised), ran_NK, logits_NE.new_zeros(())
        )  # fmt: skip

    def _count(
        self, layer: int, x_NM: torch.Tensor, mass_NE: torch.Tensor, selected_NK: torch.Tensor, ran_NK: torch.Tensor
    ) -> None:
        selected_mass_NK = mass_NE.gather(1, selected_NK)
        gain_NK = selected_mass_NK * x_NM.norm(dim=1, keepdim=True) * self.norm_LE[layer][selected_NK]
        flat = selected_NK.flatten()
        self.importance_LE[layer].index_add_(0, flat, gain_NK.detach().flatten().double())
        self.chosen_LE[layer].index_add_(0, flat, torch.ones_like(flat, dtype=torch.float64))
        ran_mass_N = mass_NE.gather(1, ran_NK.clamp_min(0)).masked_fill(ran_NK < 0, 0).sum(1)
        self.lost += (1 - ran_mass_N / selected_mass_NK.sum(1)).detach().double().sum()
        self.rows += len(x_NM)

    @property
    def lost_mass(self) -> float:
        """The mean gate mass lost per token and layer."""
        return float(self.lost) / max(1, self.rows)

    def keep(self, score_LE: torch.Tensor, slots: int | Sequence[int]) -> None:
        """Make the `slots` best experts of every layer the residents; ties: those that are resident, then the lowest.

        `slots`: one number for all layers, or one each. The order is
        `simulate.policies.memory.swap_scheduler.wanted`'s.
        """
        layers, experts = self.here_LE.shape
        slots_L = torch.tensor([slots] * layers if isinstance(slots, int) else list(slots), device=score_LE.device)
        held = self.here_LE & (self.here_LE.sum(1) == slots_L)[:, None]
        by_held = held.to(torch.int8).sort(dim=1, descending=True, stable=True).indices
        by_score = score_LE.gather(1, by_held).sort(dim=1, descending=True, stable=True).indices
        kept = torch.arange(experts, device=score_LE.device).expand(layers, experts) < slots_L[:, None]
        self.here_LE = torch.zeros_like(self.here_LE).scatter_(1, by_held.gather(1, by_score), kept)

    def forget(self) -> None:
        """Begin a new window of importance."""
        self.importance_LE.zero_()
        self.chosen_LE.zero_()


class Altered:
    """Gates whose selections of some experts are dropped (`skip`), or run by another of them (`exchange`).

    `affected_LE` marks those experts. Exchanged experts form a circle, each runs in the place of the next; weights
    stay those of the expert that was selected. After a skip the weights of the rest are as in masked gating.
    """

    def __init__(self, model: nn.Module, renormalised: bool, affected_LE: torch.Tensor, exchange: bool) -> None:
        self.gates, self.k, self.renormalised, self.exchange = model.gates, model.config.k, renormalised, exchange
        self.affected_LE = affected_LE
        self.runs_LE = torch.arange(affected_LE.shape[1]).repeat(len(affected_LE), 1).to(affected_LE.device)
        for layer, affected_E in enumerate(affected_LE):
            circle = affected_E.nonzero().flatten()
            self.runs_LE[layer, circle] = circle.roll(1)

    def __call__(self, layer: int, x_NM: torch.Tensor) -> Selection:
        """Return a layer's selection after the treatment."""
        logits_NE = self.gates[layer].logits(x_NM)
        selected_NK = logits_NE.topk(self.k, dim=1).indices
        if self.exchange:
            weights_NK = recorded_weights(logits_NE, selected_NK, self.renormalised)
            return Selection(weights_NK, self.runs_LE[layer][selected_NK], logits_NE.new_zeros(()))
        ran_NK = selected_NK.masked_fill(self.affected_LE[layer][selected_NK], -1)
        return Selection(recorded_weights(logits_NE, ran_NK, self.renormalised), ran_NK, logits_NE.new_zeros(()))
