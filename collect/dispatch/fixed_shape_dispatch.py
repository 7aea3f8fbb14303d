"""Static dispatch in operations whose shapes do not depend on values: what a compiler can make one graph of.

It computes what `StaticDispatch` does (same capacity, same order of who finds a row, same drops) without masks: a token
is copied to its row by its number. `bincount` and boolean indexing, whose results' sizes are only known when they have
run, are left out.
"""

from dataclasses import dataclass

import torch

from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.models.experts import Experts


@dataclass(frozen=True)
class FixedShapeDispatch:
    """A dispatch with a capacity. k in the capacity is the width of the selection: the most experts of any row."""

    capacity: Capacity

    def __call__(
        self, x_NM: torch.Tensor, weights_NK: torch.Tensor, experts_NK: torch.Tensor, experts: Experts
    ) -> torch.Tensor:
        """Return the weighted sum over those experts of each row that had room for it [N, O]; -1 is an empty slot."""
        tokens, k = experts_NK.shape
        slots = slots_of(self.capacity, tokens, len(experts), k)
        place_NK, nowhere = places(experts_NK, len(experts), slots), len(experts) * slots
        token_NK = torch.arange(tokens, device=x_NM.device)[:, None].expand(tokens, k)
        # One place more takes all that has no row; a place that nobody takes keeps the number of no token.
        token_P = place_NK.new_full((nowhere + 1,), tokens).index_put((place_NK,), token_NK)[:nowhere]
        rows_PM = torch.where((token_P < tokens)[:, None], x_NM[token_P.clamp(max=tokens - 1)], 0.0)
        outputs_PO = torch.cat(experts.run_each(rows_PM.view(len(experts), slots, -1).unbind()))
        kept_NKO = torch.where((place_NK < nowhere)[:, :, None], outputs_PO[place_NK.clamp(max=nowhere - 1)], 0.0)
        return (kept_NKO * weights_NK[:, :, None]).sum(1)


@torch.compiler.assume_constant_result  # exact fractions, which a compiler cannot follow
def slots_of(capacity: Capacity, tokens: int, experts: int, k: int) -> int:
    """Return the rows of every expert."""
    return capacity.slots(tokens, experts, k)


def places(experts_NK: torch.Tensor, experts: int, slots: int) -> torch.Tensor:
    """Return place = expert * slots + row of every choice [N, K].

    It is experts * slots for one without room and for an empty slot. A choice takes the first free row of its expert,
    all first choices before all second ones.
    """
    tokens, k = experts_NK.shape
    flat_X = experts_NK.T.flatten()
    sorted_X, order_X = flat_X.sort(stable=True)
    first_E = torch.searchsorted(sorted_X, torch.arange(experts, device=flat_X.device))
    row_X = torch.arange(len(flat_X), device=flat_X.device) - first_E[sorted_X.clamp_min(0)]
    fits_X = (row_X < slots) & (sorted_X >= 0)
    place_X = torch.where(fits_X, sorted_X * slots + row_X, experts * slots)
    return torch.empty_like(place_X).index_put((order_X,), place_X).view(k, tokens).T
