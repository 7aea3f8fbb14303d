"""The base class of all prefetchers, which proposes nothing."""

from __future__ import annotations

from typing import ClassVar

from moe_replay.simulate.policies.memory.knowledge import Group, Knowledge


class Prefetcher:
    """Proposes experts to load ahead. The base class never does.

    `observe` is called for every group, in the order in which they are selected; `propose` after it, once the loads
    of the group itself are on their way. What is proposed and has a slot already costs nothing.
    """

    needs: ClassVar[tuple[str, ...]] = ()

    def __init__(self, knowledge: Knowledge) -> None:
        self.knowledge = knowledge

    def observe(self, group: Group) -> None:
        """Note which experts a layer has selected."""

    def propose(self, group: Group) -> list[int]:
        """Return the keys to load ahead now that a group is known, each once, in the order they are wanted."""
        return []

    def ahead(self, group: Group) -> list[int]:
        """Return what `propose` returns; RuntimeError unless it names experts there are, each once."""
        keys = self.propose(group)
        if keys and not (min(keys) >= 0 and max(keys) < self.knowledge.layers * self.knowledge.experts):
            most = self.knowledge.layers * self.knowledge.experts - 1
            raise RuntimeError(f"{type(self).__name__} proposes {list(keys)}; allowed: keys 0..{most}")
        if len(set(keys)) < len(keys):
            raise RuntimeError(f"{type(self).__name__} proposes {list(keys)}; allowed: each key once")
        return keys

    def next_layer(self, group: Group) -> int:
        """Return the layer after a group's; after the last comes the first, of the next pass."""
        return (group.layer + 1) % self.knowledge.layers
