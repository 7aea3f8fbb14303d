"""LFU: the expert used least often since it came leaves."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.policies.memory.knowledge import Knowledge


class LFU(LRU):
    """Evict the expert used least often since it was given its slot; ties: the one used longest ago.

    The load counts as its first use, and the count is lost on eviction (in-cache LFU).
    """

    def __init__(self, slots: int, keys: range, knowledge: Knowledge) -> None:
        super().__init__(slots, keys, knowledge)
        self.uses: dict[int, int] = {}

    def insert(self, expert: int, now: int) -> None:
        """Count the first use."""
        super().insert(expert, now)
        self.uses[expert] = 1

    def touch(self, expert: int, now: int) -> None:
        """Count a use."""
        super().touch(expert, now)
        self.uses[expert] += 1

    def remove(self, expert: int) -> None:
        """Forget the expert and its count."""
        super().remove(expert)
        del self.uses[expert]

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return the least used expert; `order` runs from the longest unused, and `min` takes the first of equals."""
        return min((expert for expert in self.order if expert not in kept), key=self.uses.__getitem__)
