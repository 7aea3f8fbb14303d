"""A random expert leaves: the baseline of all that choose."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.cache import Cache


class RandomVictim(Cache):
    """Evict any expert, each with the same probability."""

    needs = ("rng",)

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Draw an expert."""
        candidates = [expert for expert in self.slot_of if expert not in kept]
        return candidates[self.knowledge.rng.integers(len(candidates))]
