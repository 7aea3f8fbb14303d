"""FIFO: the expert that came first leaves first."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.cache import Cache
from moe_replay.simulate.policies.memory.knowledge import Knowledge


class FIFO(Cache):
    """Evict the expert that was given its slot first."""

    def __init__(self, slots: int, keys: range, knowledge: Knowledge) -> None:
        super().__init__(slots, keys, knowledge)
        self.order: dict[int, None] = {}

    def insert(self, expert: int, now: int) -> None:
        """Append the expert."""
        self.order[expert] = None

    def remove(self, expert: int) -> None:
        """Take the expert out of the order."""
        del self.order[expert]

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return the expert that came first."""
        return next(expert for expert in self.order if expert not in kept)
