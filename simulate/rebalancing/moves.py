"""Which experts are sent from device to device when a placement follows another, and which copies there are meanwhile.

Of an expert with a new placement those copies are usable that are there and stay; while none is, those before them. Old
copies are dropped when all new ones are there.
Letters: L layers, D devices, E experts.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.policies.cluster.moving_experts import Copy, SharedPorts
from moe_replay.simulate.policies.cluster.ports import WEIGHTS, Message
from moe_replay.simulate.rebalancing.migration import held_counts


class HeldExperts:
    """Where experts are, [L, D, E] bool: `held` on a device, `wanted` there by the placement, and copies under way."""

    def __init__(self, expert_LP: np.ndarray, shape: ClusterShape, experts: int, expert_bytes: int) -> None:
        self.shape, self.experts, self.expert_bytes = shape, experts, expert_bytes
        self.held_LDE = self.places(expert_LP)
        self.wanted_LDE = self.held_LDE
        self.under_way: set[Copy] = set()

    def places(self, expert_LP: np.ndarray) -> np.ndarray:
        """Return which device holds what in a placement."""
        return held_counts(expert_LP, self.shape.devices, self.experts) > 0

    def follow(self, expert_LP: np.ndarray, ports: SharedPorts, now: int) -> int:
        """Let a placement be wanted from now on, and send what is missing; return the bytes that were sent.

        Layer by layer, experts and then devices ascending. A copy comes from a device of the same node that holds the
        expert, else from any; of these from the one that has sent least in this rebalance, then the lowest.
        """
        self.wanted_LDE = self.places(expert_LP)
        missing_LED = np.argwhere((self.wanted_LDE & ~self.held_LDE).transpose(0, 2, 1))
        sent: Counter[int] = Counter()
        copies = [copy for copy in map(tuple, missing_LED.tolist()) if copy not in self.under_way]
        for layer, expert, device in copies:
            holders = np.flatnonzero(self.held_LDE[layer, :, expert]).tolist()
            node = device // self.shape.devices_per_node
            source = min(holders, key=lambda each: (each // self.shape.devices_per_node != node, sent[each], each))
            sent[source] += 1
            # Where a message of a step says whose tokens it carries, this one says which expert it is.
            ports.send(Message(0, layer, WEIGHTS, source, device, expert, 0, self.expert_bytes, now))
        self.under_way.update(copies)
        return len(copies) * self.expert_bytes

    def receive(self, ports: SharedPorts) -> None:
        """Hold the copies that are there and still wanted, and drop those of former placements where all are there."""
        held_LDE = self.held_LDE.copy()
        for message in ports.moved:
            place = message.layer, message.destination, message.home
            held_LDE[place] |= self.wanted_LDE[place]
            self.under_way.discard((message.layer, message.home, message.destination))
        ports.moved.clear()
        complete_L1E = (held_LDE | ~self.wanted_LDE).all(1, keepdims=True)
        self.held_LDE = np.where(complete_L1E, self.wanted_LDE, held_LDE)

    @property
    def usable_LDE(self) -> np.ndarray:
        """Which copies can be used now."""
        stays_LDE = self.held_LDE & self.wanted_LDE
        return np.where(stays_LDE.any(1, keepdims=True), stays_LDE, self.held_LDE)

    @property
    def awaited(self) -> set[Copy]:
        """The copies under way that are wanted."""
        return {copy for copy in self.under_way if self.wanted_LDE[copy[0], copy[2], copy[1]]}


def slots_of_used(used_LDE: np.ndarray) -> np.ndarray:
    """Return expert_LP int64: a device's experts ascending, -1 in empty slots; all devices have equally many."""
    layers, devices, _ = used_LDE.shape
    most = max(1, int(used_LDE.sum(2).max()))
    layer_X, device_X, expert_X = np.nonzero(used_LDE)
    first = np.flatnonzero(np.diff(layer_X * devices + device_X, prepend=-1))
    within_X = np.arange(len(layer_X)) - np.repeat(first, np.diff(first, append=len(layer_X)))
    expert_LDX = np.full((layers, devices, most), -1, np.int64)
    expert_LDX[layer_X, device_X, within_X] = expert_X
    return expert_LDX.reshape(layers, devices * most)
