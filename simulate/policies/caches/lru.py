"""LRU: the expert used least recently leaves."""

from moe_replay.simulate.policies.caches.fifo import FIFO


class LRU(FIFO):
    """Evict the expert used longest ago. A stack algorithm: more slots never hurt it (Mattson et al. 1970)."""

    def touch(self, expert: int, now: int) -> None:
        """Put the expert last."""
        del self.order[expert]
        self.order[expert] = None
