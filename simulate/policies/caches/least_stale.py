"""Least stale: experts run layer by layer, so that what a pass has left behind is not needed before the next one.

After the idea of SpecMD (Hoang et al. 2026, arXiv 2602.03921), of which only the abstract was read: the exact order
below is ours.
"""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.policies.memory.knowledge import Knowledge


class LeastStale(LRU):
    """Evict experts of layers that the present pass has reached or left behind before those of layers to come.

    Within both kinds the one used longest ago leaves first; so what was last used in an earlier pass (stale) leaves
    before what this pass used. The present layer is that of the last access, hit or miss. A cache of one layer cannot
    tell layers apart: there it is LRU.
    """

    def __init__(self, slots: int, keys: range, knowledge: Knowledge) -> None:
        super().__init__(slots, keys, knowledge)
        self.layer = 0

    def miss(self, expert: int, now: int) -> None:
        """Note the present layer."""
        self.layer = expert // self.knowledge.experts

    def touch(self, expert: int, now: int) -> None:
        """Note the use and the present layer."""
        super().touch(expert, now)
        self.layer = expert // self.knowledge.experts

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return the expert used longest ago of the layers reached; of those to come if there is none."""
        candidates = [expert for expert in self.order if expert not in kept]
        end = (self.layer + 1) * self.knowledge.experts
        return next((expert for expert in candidates if expert < end), candidates[0])
