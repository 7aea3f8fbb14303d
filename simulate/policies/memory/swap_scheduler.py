"""SwapMoE's online scheduler (arXiv 2308.15030): which experts a layer should hold next, and how they get there.

Importance (equation 1) is the sum over the tokens sent to an expert of |x| * G(x) * |E|: the norm of the layer's
input, the gate weight, and the norm of the expert's own weights. What the paper leaves open is chosen so: a token
counts for the experts that the router chose *before* masking, so that an absent expert can earn its slot; G is the
router's score over all experts; a window's importance starts from nothing, it does not remember the window before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from moe_replay.traces.errors import InputError

LEARNED_METHODS = ("importance", "popularity", "swapmoe")  # ways to choose residents that training data tell first


class Importance:
    """Importance of every expert in the present window of passes.

    `norm_K` are the norms of the experts' weights by key, `score_K` is what the window has gathered so far.
    InputError for another number of norms than of keys.
    """

    def __init__(self, keys: int, norm_K: Sequence[float] | None = None) -> None:
        if norm_K is not None and len(norm_K) != keys:
            raise InputError(f"{len(norm_K)} norms of experts' weights, allowed {keys}, one for each expert")
        self.norm_K = [1.0] * keys if norm_K is None else list(norm_K)
        self.score_K = [0.0] * keys

    def add(self, keys: Iterable[int], weights: Iterable[float], input_norm: float = 1.0) -> None:
        """Count a token in a layer: the keys its router chose, their gate weights, the norm of the layer's input."""
        for key, weight in zip(keys, weights, strict=True):
            self.score_K[key] += input_norm * weight * self.norm_K[key]

    def clear(self) -> None:
        """Begin a new window."""
        self.score_K = [0.0] * len(self.score_K)


def wanted(score_K: Sequence[float], keys: Sequence[int], slots: int, held: Iterable[int]) -> list[int]:
    """Return the experts a cache should hold: the `slots` most important of `keys`, the best first.

    Ties: what is held stays, so that nothing travels for nothing; then the lowest key.
    """
    there = set(held)
    return sorted(keys, key=lambda key: (-score_K[key], key not in there, key))[:slots]


def exchanges(
    score_K: Sequence[float], keys_C: Sequence[Sequence[int]], slots_C: Sequence[int], held_C: Sequence[Iterable[int]]
) -> deque[int]:
    """Return the experts to bring, layer by layer (cache by cache), the most important of each first."""
    plan: deque[int] = deque()
    for keys, slots, held in zip(keys_C, slots_C, held_C, strict=True):
        there = set(held)
        plan.extend(key for key in wanted(score_K, keys, slots, there) if key not in there)
    return plan
