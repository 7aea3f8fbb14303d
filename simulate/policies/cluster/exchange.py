"""What devices send each other in a layer, directly or through relays, and who waits for how much of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.policies.cluster.ports import COMBINE, DISPATCH, Message
from moe_replay.simulate.policies.cluster.step_routes import Place, StepRoutes


class Exchange:
    """The messages of one step, and what has not come yet.

    A direct message goes from home to device, or back. In hierarchical mode one message for a whole node goes to the
    device of the home's place there, a relay, which forwards it; results come back through the same relay, tokens
    counted once.
    """

    def __init__(self, routes: StepRoutes, devices: int, cluster: ClusterConfig) -> None:
        self.routes, self.devices, self.cluster = routes, devices, cluster
        self.in_node = devices // cluster.nodes
        self.relays = cluster.mode == "hierarchical"
        self.shares = cluster.shared_experts > 0
        self.came: Counter[tuple[Place, int]] = Counter()  # of what a device runs: homes whose tokens are there
        self.back: Counter[tuple[Place, int]] = Counter()  # of what a home gets back: messages, and its own part
        self.parts: Counter[tuple[Place, int, int]] = Counter()  # of a (home, node): devices whose results are in

    def keeps_local(self, place: Place, device: int) -> bool:
        """Say whether tokens of a device go to its own slots."""
        return (device, device) in self.routes.of(*place).copies

    def is_for(self, place: Place, home: int, device: int) -> bool:
        """Say whether tokens of a home go to a device."""
        return (home, device) in self.routes.of(*place).copies

    def expects_results(self, place: Place, home: int) -> bool:
        """Say whether tokens of a home go anywhere, be it to shared experts."""
        return self.shares or any(self.is_for(place, home, device) for device in range(self.devices))

    def all_there(self, place: Place, device: int) -> bool:
        """Note that the tokens of a further home are there; say whether those of all homes are."""
        self.came[place, device] += 1
        return self.came[place, device] == sum(self.is_for(place, home, device) for home in range(self.devices))

    def all_back(self, place: Place, home: int) -> bool:
        """Note that further results of a home are back; say whether all are."""
        self.back[place, home] += 1
        return self.back[place, home] == self._expected(place, home)

    def _expected(self, place: Place, home: int) -> int:
        """Return how many messages with results a home gets; its own part and what it shares count as one each."""
        there = {device for device in range(self.devices) if self.is_for(place, home, device)}
        if not self.relays:
            return len(there) + self.shares
        own = home // self.in_node
        nodes = {device // self.in_node for device in there}
        return sum(device // self.in_node == own for device in there) + len(nodes - {own}) + self.shares

    def dispatch(self, place: Place, home: int) -> Iterator[Message]:
        """Yield the messages of a home whose dense block is done, in order: network first where there are relays."""
        copies, own = self.routes.of(*place), home // self.in_node
        if self.relays:
            for node in self._others(own, self.cluster.nodes):
                if tokens := copies.node_copies.get((home, node)):
                    yield self._message(place, DISPATCH, home, self._relay(home, node), home, tokens)
        for device in self._others(home, self.devices):
            tokens = copies.copies.get((home, device))
            if tokens and not (self.relays and device // self.in_node != own):
                yield self._message(place, DISPATCH, home, device, home, tokens)

    def combine(self, place: Place, device: int) -> Iterator[Message]:
        """Yield the messages of a device that has run all its slots, in order of the homes behind it."""
        copies, node = self.routes.of(*place).copies, device // self.in_node
        for home in self._others(device, self.devices):
            if tokens := copies.get((home, device)):
                if not self.relays or home // self.in_node == node:
                    yield self._message(place, COMBINE, device, home, home, tokens)
                elif self._relay(home, node) == device:
                    yield from self._part_is_in(place, home, node)
                else:
                    yield self._message(place, COMBINE, device, self._relay(home, node), home, tokens)

    def relayed(self, message: Message) -> Iterator[Message]:
        """Yield what a device sends on when a message is delivered to it, if it is a relay."""
        place, relay, home = (message.micro_batch, message.layer), message.destination, message.home
        node = relay // self.in_node
        if not self.relays or node == home // self.in_node:
            return
        if message.kind == COMBINE:
            yield from self._part_is_in(place, home, node)
            return
        copies = self.routes.of(*place).copies
        for other in self._others(relay % self.in_node, self.in_node):
            device = node * self.in_node + other
            if message.source == home and (tokens := copies.get((home, device))):
                yield self._message(place, DISPATCH, relay, device, home, tokens)

    def _part_is_in(self, place: Place, home: int, node: int) -> Iterator[Message]:
        """A relay has the results of one more device of its node; with the last of them it sends them to the home."""
        self.parts[place, home, node] += 1
        devices = range(node * self.in_node, (node + 1) * self.in_node)
        if self.parts[place, home, node] == sum(self.is_for(place, home, device) for device in devices):
            tokens = self.routes.of(*place).node_copies[home, node]
            yield self._message(place, COMBINE, self._relay(home, node), home, home, tokens)

    def _relay(self, home: int, node: int) -> int:
        """Return the device of a home's place in another node."""
        return node * self.in_node + home % self.in_node

    @staticmethod
    def _others(one: int, count: int) -> Iterator[int]:
        """Yield the numbers behind one, cyclically, without it."""
        return ((one + further) % count for further in range(1, count))

    def _message(self, place: Place, kind: int, source: int, destination: int, home: int, tokens: int) -> Message:
        each = self.cluster.combine_bytes if kind == COMBINE else self.cluster.dispatch_bytes
        return Message(*place, kind, source, destination, home, tokens, tokens * each, -1)
