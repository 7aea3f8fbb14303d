"""Prefetch what the previous token, or pass, selected in the next layer."""

from moe_replay.simulate.policies.memory.knowledge import Group, Knowledge
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher


class PreviousToken(Prefetcher):
    """Propose for the next layer what the last pass of the same sequence selected there; nothing for its first pass."""

    def __init__(self, knowledge: Knowledge) -> None:
        super().__init__(knowledge)
        self.last: dict[tuple[int, int], tuple[int, ...]] = {}  # (sequence, layer) -> members

    def observe(self, group: Group) -> None:
        """Note what this pass selected."""
        self.last[group.sequence, group.layer] = group.members

    def propose(self, group: Group) -> list[int]:
        """Return what the next layer selected last time."""
        return list(self.last.get((group.sequence, self.next_layer(group)), ()))
