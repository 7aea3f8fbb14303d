"""The optimum, MIN (Belady 1966): what needs the future."""

from collections.abc import Collection

from simulate.policies.memory.cache import Cache


class Belady(Cache):
    """Evict the expert whose next use is farthest away; ties (never used again): the first admitted.

    With slots of one size, transfers of one cost and no bypass it has the fewest misses of all. A policy that bypasses
    has one slot beside its own, so that it is the optimum of C + 1 slots that bounds it.
    """

    needs = ("future",)

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return the expert with the farthest next use."""
        future, position = self.knowledge.future, self.counts.accesses
        candidates = (expert for expert in self.slot_of if expert not in kept)
        return max(candidates, key=lambda expert: future.next_use(expert, position))
