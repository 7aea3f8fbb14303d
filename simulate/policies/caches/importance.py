"""Importance, the score by which SwapMoE keeps experts (arXiv 2308.15030)."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.cache import Cache


class Importance(Cache):
    """Evict the least important expert; ties: the one that was given its slot first. Scores are given beforehand."""

    needs = ("importance",)

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return the least important expert; `slot_of` holds them in the order of their admission."""
        candidates = (expert for expert in self.slot_of if expert not in kept)
        return min(candidates, key=self.knowledge.importance.__getitem__)
