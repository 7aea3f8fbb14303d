"""What a policy may know beside accesses and residency: given beforehand, never looked up while it runs."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from moe_replay.traces.errors import InputError


class Future:
    """The accesses of one cache in order, known beforehand: what an oracle asks.

    It is exact only where the accesses come in this order: without time, in lockstep, or in a replay of a known order.
    """

    def __init__(self, accesses: Sequence[int]) -> None:
        self.length = len(accesses)
        self.positions: dict[int, list[int]] = {}
        for position, expert in enumerate(accesses):
            self.positions.setdefault(expert, []).append(position)

    def next_use(self, expert: int, position: int) -> int:
        """Return the first access of an expert at or after a position, the number of accesses if there is none."""
        uses = self.positions.get(expert, ())
        at = bisect_left(uses, position)
        return uses[at] if at < len(uses) else self.length


class Group(NamedTuple):
    """The experts that run together: distinct keys of one layer, in the order in which they run.

    `sequence` is the one they run for, -1 where a group serves several.
    """

    layer: int
    sequence: int
    members: tuple[int, ...]


@dataclass
class AccessOrder:
    """The accesses of every cache of every device and the groups, in the order in which a run made them."""

    keys_DC: list[list[list[int]]]
    groups: list[Group]


@dataclass(frozen=True)
class Knowledge:
    """What is given to policies. A policy that needs what is None here is refused by name.

    `layers` and `experts` (per layer) are the model's. `popularity` and `importance` hold a number per key (L * E of
    them, layer after layer): selections, and SwapMoE's score. `future` is that of one cache, `groups` are all groups
    to come, in order; `look_ahead` says how many of them the oracle prefetcher may see. `rng` draws random victims.
    `learned` marks popularity and importance: `held-out`, or `hindsight` where they come from what is replayed.
    `held` are the experts of the cache's device, None: all; the others are never asked of it.
    InputError for another number of popularities or importances than of keys.
    """

    layers: int
    experts: int
    popularity: Sequence[float] | None = None
    importance: Sequence[float] | None = None
    future: Future | None = None
    groups: Sequence[Group] | None = None
    look_ahead: int = 1
    rng: np.random.Generator | None = None
    learned: str = "hindsight"
    held: Collection[int] | None = None

    def __post_init__(self) -> None:
        keys = self.layers * self.experts
        for name in ("popularity", "importance"):
            found = getattr(self, name)
            if found is not None and len(found) != keys:
                raise InputError(f"{name} has {len(found)} numbers, allowed {keys}, one for each expert")


# What a field of Knowledge is called in a refusal.
MEANING = {
    "popularity": "the popularity of every expert",
    "importance": "the importance of every expert",
    "future": "the accesses to come, which a live run does not have",
    "groups": "the groups to come, which a live run does not have",
    "rng": "a random generator",
}
