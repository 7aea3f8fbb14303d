"""Prefetch the most popular experts of the next layer."""

from moe_replay.simulate.policies.memory.knowledge import Group, Knowledge
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher


class Popularity(Prefetcher):
    """Propose for the next layer its most popular experts, as many as the present group has members.

    Ties: the lowest key.
    """

    needs = ("popularity",)

    def __init__(self, knowledge: Knowledge) -> None:
        super().__init__(knowledge)
        popularity, experts = knowledge.popularity, knowledge.experts
        self.ranked = [
            sorted(range(layer * experts, (layer + 1) * experts), key=lambda expert: -popularity[expert])
            for layer in range(knowledge.layers)
        ]

    def propose(self, group: Group) -> list[int]:
        """Return the most popular experts of the next layer."""
        return self.ranked[self.next_layer(group)][: len(group.members)]
