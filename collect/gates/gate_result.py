"""What a gate returns, and how ranked probabilities become one."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import nn

from moe_replay.traces.k_rules import KRule


class Counts(Protocol):
    """Anything that says how many experts each row gets: a KRule, or numbers given from outside."""

    def count(self, ranked: torch.Tensor) -> torch.Tensor:
        """Return K [N] from probabilities [N, E] in descending order."""


ExpertsPerRow = int | KRule | Counts
ExpertsPerLayer = ExpertsPerRow | list[ExpertsPerRow]  # one for all layers, or a list with one each


class Selection(NamedTuple):
    """`weights_NK` and `experts_NK` (int64), best first; -1 marks an empty slot, behind the last expert, of weight 0.

    `loss` is the gate's own training loss (balance, size), a scalar; zero outside training.
    """

    weights_NK: torch.Tensor
    experts_NK: torch.Tensor
    loss: torch.Tensor


Selector = Callable[[int, torch.Tensor], Selection]  # (layer, its normed inputs [N, M]) -> instead of its gate


def choose(logits_NE: torch.Tensor, k: ExpertsPerRow, renormalised: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (weights [N, K], experts [N, K]) of the k largest logits, or of as many as a rule counts.

    Weights are a softmax over the chosen alone, or (`renormalised` False) probabilities over all E: which of the two
    is the gate's, as it was trained, whatever rule is applied to it later. Under a rule K is the largest number that
    any row gets, and the others' slots are empty.
    """
    if isinstance(k, int):
        top_NK, experts_NK = logits_NE.topk(k, dim=1)
        weights_NK = top_NK.softmax(1) if renormalised else (top_NK - logits_NE.logsumexp(1, keepdim=True)).exp()
        return weights_NK, experts_NK
    ranked_NE, order_NE = logits_NE.softmax(1).sort(dim=1, descending=True, stable=True)
    return keep(ranked_NE, order_NE, k.count(ranked_NE), renormalised)


def keep(
    ranked_NE: torch.Tensor, order_NE: torch.Tensor, count_N: torch.Tensor, renormalised: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (weights, experts) of the first `count_N` experts of every row; the others' slots are empty."""
    most = max(int(count_N.max()), 1)
    empty_NK = torch.arange(most, device=count_N.device) >= count_N[:, None]
    weights_NK = ranked_NE[:, :most].masked_fill(empty_NK, 0)
    if renormalised:
        weights_NK = weights_NK / weights_NK.sum(1, keepdim=True).clamp_min(1e-30)
    return weights_NK, order_NE[:, :most].masked_fill(empty_NK, -1)


class GivenCounts:
    """Numbers of experts per row that come from outside, in row order: controls shuffle what a rule had counted."""

    def __init__(self, count_N: torch.Tensor) -> None:
        self.count_N = count_N

    def count(self, ranked: torch.Tensor) -> torch.Tensor:
        """Return the given numbers; one per row of `ranked`."""
        return self.count_N


def recorded_weights(logits_NE: torch.Tensor, experts_NK: torch.Tensor, renormalised: bool) -> torch.Tensor:
    """Return the weights [N, K] of experts that were chosen elsewhere: probabilities over all E, or over the chosen.

    Empty slots (-1) get weight 0.
    """
    empty_NK = experts_NK < 0
    chosen_NK = logits_NE.gather(1, experts_NK.clamp_min(0)).masked_fill(empty_NK, -torch.inf)
    if renormalised:
        return chosen_NK.softmax(1).masked_fill(empty_NK, 0)
    return (chosen_NK - logits_NE.logsumexp(1, keepdim=True)).exp()


def recorded_selector(gates: Sequence[nn.Module], experts_NLK: torch.Tensor, renormalised: bool) -> Selector:
    """Return the selector that takes the experts [N, L, K] that were chosen elsewhere and weighs them now."""

    def select(layer: int, x_NM: torch.Tensor) -> Selection:
        logits_NE, experts_NK = gates[layer].logits(x_NM), experts_NLK[:, layer]
        return Selection(recorded_weights(logits_NE, experts_NK, renormalised), experts_NK, logits_NE.new_zeros(()))

    return select
