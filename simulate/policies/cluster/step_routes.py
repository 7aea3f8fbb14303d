"""Where the tokens of one step go: which slots run how many of them, and how many copies devices send each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from moe_replay.simulate.policies.cluster.replica_split import ReplicaSplit

Place = tuple[int, int]  # (micro-batch, layer)


@dataclass(slots=True)
class Part:
    """A micro-batch of a home device: its tokens, and the passes that they belong to, in order."""

    tokens: list[int] = field(default_factory=list)
    passes: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Routes:
    """What a micro-batch of the whole step needs in one layer.

    `members`: the tokens of every active slot. `copies`: what (home, device) exchange, a token once for each device or
    selection. `node_copies`: what (home, node) exchange, a token once.
    """

    members: dict[int, list[int]] = field(default_factory=dict)
    copies: Counter[tuple[int, int]] = field(default_factory=Counter)
    node_copies: Counter[tuple[int, int]] = field(default_factory=Counter)

    def add(self, token: int, home: int, slots: list[int], devices: list[int], split: ReplicaSplit, once: bool) -> None:
        """Add a token of a home that goes to these slots, which are on these devices."""
        for slot in slots:
            self.members.setdefault(slot, []).append(token)
        self.copies.update((home, device) for device in (dict.fromkeys(devices) if once else devices))
        nodes = dict.fromkeys(device // split.devices_per_node for device in devices)
        self.node_copies.update((home, node) for node in nodes)


class StepRoutes:
    """The routes of one step, by (micro-batch, layer), and its parts, by (micro-batch, home).

    `rows` are (token, pass, home, its experts in every layer in rank order), in order. Token n of a home is in
    micro-batch n modulo `micro_batches`; replicas are shared out before, in the order of the rows.
    """

    def __init__(
        self, rows: Iterable[tuple[int, int, int, list[list[int]]]], split: ReplicaSplit, micro_batches: int, once: bool
    ) -> None:
        self.parts: dict[tuple[int, int], Part] = {}
        self.routes: dict[Place, Routes] = {}
        split.begin_step()
        of_home: Counter[int] = Counter()
        for token, p, home, experts_L in rows:
            micro_batch = of_home[home] % micro_batches
            of_home[home] += 1
            part = self.parts.setdefault((micro_batch, home), Part())
            part.tokens.append(token)
            if not part.passes or part.passes[-1] != p:
                part.passes.append(p)
            for layer, experts in enumerate(experts_L):
                if experts:
                    slots = [split.slot(layer, expert, home) for expert in experts]
                    devices = [slot // split.slots_per_device for slot in slots]
                    routes = self.routes.setdefault((micro_batch, layer), Routes())
                    routes.add(token, home, slots, devices, split, once)

    def of(self, micro_batch: int, layer: int) -> Routes:
        """Return the routes of a micro-batch in a layer."""
        return self.routes.get((micro_batch, layer), NOWHERE)


NOWHERE = Routes()
