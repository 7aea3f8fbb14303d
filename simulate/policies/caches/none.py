"""No expert is kept: every access is a miss."""

from moe_replay.simulate.policies.caches.cache import Cache


class NoCache(Cache):
    """Keep nothing; every expert passes through the slot in which it runs."""

    bypasses = True

    def wants(self, expert: int, now: int) -> bool:
        """Want no expert."""
        return False
