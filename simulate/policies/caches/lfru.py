"""LFRU: the expert with the fewest uses for its age leaves."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.lfu import LFU
from moe_replay.simulate.policies.memory.knowledge import Knowledge


class LFRU(LFU):
    """Evict the expert with the lowest ratio of uses to age; ties: the one used longest ago.

    Uses count since the slot was given, as in LFU. Age is the number of accesses from the last use to the present one,
    both included: accesses and not time, so that the order of evictions does not depend on durations.
    """

    def __init__(self, slots: int, keys: range, knowledge: Knowledge) -> None:
        super().__init__(slots, keys, knowledge)
        self.last: dict[int, int] = {}

    def insert(self, expert: int, now: int) -> None:
        """Note the first use."""
        super().insert(expert, now)
        self.last[expert] = self.counts.accesses

    def touch(self, expert: int, now: int) -> None:
        """Note a use."""
        super().touch(expert, now)
        self.last[expert] = self.counts.accesses

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return the expert with the lowest frequency over age."""
        after = self.counts.accesses + 1
        candidates = (expert for expert in self.order if expert not in kept)
        return min(candidates, key=lambda expert: self.uses[expert] / (after - self.last[expert]))
