"""Prefetch what most often followed: the experts of the next layer that went with those of this one."""

from collections import defaultdict

from moe_replay.simulate.policies.memory.knowledge import Group, Knowledge
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher


class CoActivation(Prefetcher):
    """Propose for the next layer the experts that most often followed the present ones, as many as are present.

    The score of expert j is the sum over the present experts i of P(j follows i), counted over the groups seen so far:
    j is in the next layer's group of the same pass. Experts that never followed are not proposed; the last layer
    proposes nothing, since another pass follows it. Ties: the lowest key.
    """

    def __init__(self, knowledge: Knowledge) -> None:
        super().__init__(knowledge)
        self.pairs: dict[int, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self.seen: dict[int, int] = defaultdict(int)  # how often an expert had a next layer
        self.before: dict[int, Group] = {}  # by sequence

    def observe(self, group: Group) -> None:
        """Count the pairs of this group and the one before it in the pass."""
        before = self.before.get(group.sequence)
        self.before[group.sequence] = group
        if before is None or before.layer + 1 != group.layer:
            return
        for expert in before.members:
            self.seen[expert] += 1
            follows = self.pairs[expert]
            for follower in group.members:
                follows[follower] += 1

    def propose(self, group: Group) -> list[int]:
        """Return the experts of the next layer with the highest score."""
        score: dict[int, float] = defaultdict(float)
        for expert in group.members:
            for follower, count in self.pairs[expert].items() if expert in self.pairs else ():
                score[follower] += count / self.seen[expert]
        return sorted(score, key=lambda follower: (-score[follower], follower))[: len(group.members)]
