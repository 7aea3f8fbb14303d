"""A fixed set of experts, the most popular ones, stays; no other gets a slot."""

from moe_replay.simulate.policies.caches.cache import Cache
from moe_replay.simulate.policies.memory.knowledge import Knowledge


class Static(Cache):
    """Keep the C most popular experts of the device (ties: the lowest key) for good; every other access is a miss.

    Each of them is loaded at its first access. To have them there from the start, prefetch `members` before it.
    Where popularity is the true probability of independent accesses, no set of C experts that stays hits more often.
    """

    needs = ("popularity",)
    bypasses = True

    def __init__(self, slots: int, keys: range, knowledge: Knowledge) -> None:
        super().__init__(slots, keys, knowledge)
        popularity, held = knowledge.popularity, knowledge.held
        own = keys if held is None else [key for key in keys if key in held]
        self.members = frozenset(sorted(own, key=lambda expert: -popularity[expert])[:slots])

    def wants(self, expert: int, now: int) -> bool:
        """Want the most popular experts only."""
        return expert in self.members
