"""Prefetch what will be selected: the bound of every prefetcher."""

from moe_replay.simulate.policies.memory.knowledge import Group, Knowledge
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher


class Oracle(Prefetcher):
    """Propose the members of the next d groups, in the order in which they will run; d is `look_ahead`.

    It is exact only where groups come in the order that was given.
    """

    needs = ("groups",)

    def __init__(self, knowledge: Knowledge) -> None:
        super().__init__(knowledge)
        self.observed = 0

    def observe(self, group: Group) -> None:
        """Move on by one group."""
        self.observed += 1

    def propose(self, group: Group) -> list[int]:
        """Return the members of the groups ahead."""
        ahead = self.knowledge.groups[self.observed : self.observed + self.knowledge.look_ahead]
        return list(dict.fromkeys(member for group in ahead for member in group.members))
