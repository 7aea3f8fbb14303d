"""Static dispatch: every expert computes a fixed number of rows (GShard; Huang et al. 2023, section 3).

One dispatch mask per expert, tokens x rows: a token takes the first free row of its expert, all first choices before
all second ones, in the order of the batch (GShard, algorithm 1). Where no row is free the choice is dropped: only the
residual around the layer survives. The masks, side by side as [N, E * slots], multiply the inputs, the experts run on
zero-padded rows, and the same masks bring the weighted outputs back.

The masks have the inputs' type, because a matrix product wants both alike (fairseq casts them too). Everything beside
masks, padded rows and outputs is kept as lean as dynamic dispatch keeps it, so that their comparison is about those.
"""

from dataclasses import dataclass

import torch

from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.models.experts import Experts


@dataclass(frozen=True)
class StaticDispatch:
    """A dispatch with a capacity. k in the capacity is the width of the selection: the most experts of any row."""

    capacity: Capacity

    def __call__(
        self, x_NM: torch.Tensor, weights_NK: torch.Tensor, experts_NK: torch.Tensor, experts: Experts
    ) -> torch.Tensor:
        """Return the weighted sum over those experts of each row that had room for it [N, O]; -1 is an empty slot."""
        slots = self.slots(experts_NK, len(experts))
        token_X, choice_X, place_X = free_rows(experts_NK, len(experts), slots)
        masks_NP = x_NM.new_zeros(len(x_NM), len(experts) * slots)
        masks_NP[token_X, place_X] = 1
        weights_P = x_NM.new_zeros(len(experts) * slots).index_put_((place_X,), weights_NK[token_X, choice_X])
        outputs_PO = outputs_of(experts, (masks_NP.T @ x_NM).view(len(experts), slots, -1), weights_P)
        return masks_NP @ outputs_PO

    def dropped(self, experts_NK: torch.Tensor, experts: int) -> int:
        """Return how many of the choices find no free row."""
        slots = self.slots(experts_NK, experts)
        load_E = torch.bincount(experts_NK.flatten() + 1, minlength=experts + 1)[1:]
        return int((load_E - slots).clamp_min(0).sum())

    def slots(self, experts_NK: torch.Tensor, experts: int) -> int:
        """Return the rows that every expert computes for such a selection."""
        tokens, k = experts_NK.shape
        return self.capacity.slots(tokens, experts, k)


def free_rows(experts_NK: torch.Tensor, experts: int, slots: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return (token, which of its choices, place) of every choice that has room; place = expert * slots + row."""
    tokens = len(experts_NK)
    flat_X = experts_NK.T.flatten()  # all first choices, then all second ones
    order_X = flat_X.argsort(stable=True)
    expert_X = flat_X[order_X]
    counts = torch.bincount(flat_X + 1, minlength=experts + 1)
    first = counts.cumsum(0) - counts  # where each expert's choices begin
    row_X = torch.arange(len(flat_X), device=flat_X.device) - first[expert_X + 1]
    fits_X = (row_X < slots) & (expert_X >= 0)
    order_X = order_X[fits_X]
    return order_X % tokens, order_X // tokens, (expert_X * slots + row_X)[fits_X]


def outputs_of(experts: Experts, padded_ESM: torch.Tensor, weights_P: torch.Tensor) -> torch.Tensor:
    """Return the weighted outputs [E * slots, O] of all experts on all their rows, padding included (weight 0)."""
    if torch.is_grad_enabled():
        return torch.cat(experts.run_each(padded_ESM.unbind())) * weights_P[:, None]
    outputs_ESO = padded_ESM.new_empty(*padded_ESM.shape[:2], experts.outputs)
    for run, x_SM, output_SO in zip(experts.runners(), padded_ESM, outputs_ESO, strict=True):
        output_SO.copy_(run(x_SM))
    return outputs_ESO.flatten(0, 1).mul_(weights_P[:, None])
