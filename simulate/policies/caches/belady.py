"""Belady's optimum, which knows the future, with and without the right to decline an expert."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.cache import Cache


class Belady(Cache):
    """Evict the expert whose next use is farthest away; ties (never used again): the first admitted (MIN, Belady 1966).

    With slots of one size and transfers of one cost it has the fewest misses of all that keep what they load. It bounds
    no policy that declines experts: `BeladyBypass` bounds those too.
    """

    needs = ("future",)

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return the expert with the farthest next use."""
        future, position = self.knowledge.future, self.counts.accesses
        candidates = (expert for expert in self.slot_of if expert not in kept)
        return max(candidates, key=lambda expert: future.next_use(expert, position))


class BeladyBypass(Belady):
    """Belady's optimum that may decline: of the residents and the new expert, the one with the farthest next use goes.

    No way to use as many slots, with or without keeping what is loaded, has fewer misses. Members of a group that have
    not run yet are needed sooner than any expert that runs before them is needed again, so that protecting them costs
    nothing: it is the optimum of groups as well. Where nobody may leave, the new expert is let through.
    """

    bypasses = True

    def wants(self, expert: int, now: int) -> bool:
        """Want an expert that is needed sooner than one of those that may leave."""
        if self.free:
            return True
        kept = self.kept
        if all(held in kept for held in self.slot_of):
            return False
        future, position = self.knowledge.future, self.counts.accesses
        farthest = self.victim(now, kept)
        return future.next_use(expert, position) < future.next_use(farthest, position)
