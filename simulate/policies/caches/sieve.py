"""SIEVE (Zhang et al., NSDI 2024)."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.cache import Cache
from moe_replay.simulate.policies.memory.knowledge import Knowledge


class Sieve(Cache):
    """A hand moves from the oldest expert to the newest and round again; it evicts the first one not used since.

    Used ones lose their mark as the hand passes and keep their place. Kept experts are passed over as they are.
    """

    def __init__(self, slots: int, keys: range, knowledge: Knowledge) -> None:
        super().__init__(slots, keys, knowledge)
        self.order: list[int] = []  # oldest first
        self.hand = 0  # index of the expert that the hand looks at next
        self.used: set[int] = set()

    def insert(self, expert: int, now: int) -> None:
        """Append the expert, unmarked."""
        self.order.append(expert)

    def touch(self, expert: int, now: int) -> None:
        """Mark the expert as used."""
        self.used.add(expert)

    def remove(self, expert: int) -> None:
        """Take the expert out; the hand stays before the one that it was to look at, the oldest after the newest."""
        at = self.order.index(expert)
        del self.order[at]
        self.used.discard(expert)
        self.hand -= at < self.hand
        if self.hand == len(self.order):
            self.hand = 0

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Move the hand to the first expert that is unmarked, and return it."""
        while (expert := self.order[self.hand]) in self.used or expert in kept:
            if expert not in kept:
                self.used.discard(expert)
            self.hand = (self.hand + 1) % len(self.order)
        return expert
