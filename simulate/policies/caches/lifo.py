"""LIFO, last in, first out, aware of the batch: expert buffering (Huang et al. 2023, arXiv 2303.06182)."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.fifo import FIFO


class LIFO(FIFO):
    """Evict an expert that is not active in the running group; if all are, the one that came in last.

    What the paper leaves open is chosen so: of several inactive experts the one that was given its slot first leaves;
    "in" is when the slot was given (`LIFOByUse`: the last use); members that have not run yet are protected, as under
    every policy. Flat mode has no groups, so that it is plain LIFO.
    """

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Return the first inactive expert in the order, or the last expert."""
        if self.announced is not None:
            inactive = (each for each in self.order if each not in self.announced and each not in kept)
            if (first := next(inactive, None)) is not None:
                return first
        return next(expert for expert in reversed(self.order) if expert not in kept)


class LIFOByUse(LIFO):
    """The same rule, but "in" is the last use; in flat mode that is MRU, the most recently used."""

    def touch(self, expert: int, now: int) -> None:
        """Put the expert last."""
        del self.order[expert]
        self.order[expert] = None
