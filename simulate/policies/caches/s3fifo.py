"""S3-FIFO (Yang et al., SOSP 2023)."""

from collections.abc import Collection

from moe_replay.simulate.policies.caches.cache import Cache
from moe_replay.simulate.policies.memory.knowledge import Knowledge

MOST_USES = 3  # a counter of two bits


class S3FIFO(Cache):
    """Three FIFO queues: newcomers in a small one (a tenth of the slots, at least one), the rest in the main one.

    What leaves the small queue moves to the main one if it was used more than once, else it is evicted and remembered
    as a ghost; a ghost that returns goes to the main queue. The main queue gives what was used another round for each
    use. There are as many ghosts as slots in the main queue.
    """

    def __init__(self, slots: int, keys: range, knowledge: Knowledge) -> None:
        super().__init__(slots, keys, knowledge)
        self.small_slots = max(1, slots // 10)
        self.small: dict[int, None] = {}
        self.main: dict[int, None] = {}
        self.ghosts: dict[int, None] = {}
        self.uses: dict[int, int] = {}

    def insert(self, expert: int, now: int) -> None:
        """Append the expert to the main queue if it is a ghost, else to the small one."""
        returns = expert in self.ghosts
        self.ghosts.pop(expert, None)
        (self.main if returns else self.small)[expert] = None
        self.uses[expert] = 0

    def touch(self, expert: int, now: int) -> None:
        """Count a use."""
        self.uses[expert] = min(self.uses[expert] + 1, MOST_USES)

    def remove(self, expert: int) -> None:
        """Take the expert out of its queue."""
        del (self.small if expert in self.small else self.main)[expert], self.uses[expert]

    def victim(self, now: int, kept: Collection[int]) -> int:
        """Turn the queues until one gives an expert up."""
        while True:
            small = next((expert for expert in self.small if expert not in kept), None)
            main = next((expert for expert in self.main if expert not in kept), None)
            if small is not None and (main is None or len(self.small) >= self.small_slots):
                if self.uses[small] <= 1:
                    self._remember(small)
                    return small
                del self.small[small]
                self.main[small], self.uses[small] = None, 0
            else:
                if self.uses[main] == 0:
                    return main
                del self.main[main]
                self.main[main] = None
                self.uses[main] -= 1

    def _remember(self, expert: int) -> None:
        self.ghosts[expert] = None
        if len(self.ghosts) > self.slots - self.small_slots:
            del self.ghosts[next(iter(self.ghosts))]
