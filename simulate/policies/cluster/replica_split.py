"""Which of an expert's slots a selection goes to: its replicas in turn, or the nearest ones in turn."""

from __future__ import annotations

from collections import Counter

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig


class ReplicaSplit:
    """Shares the selections of a step (under queues, of the run) out over the replicas of their experts.

    `round-robin`: the n-th selection of a layer that falls to a set of replicas takes its n-th slot, cyclically.
    `nearest`: the same among the replicas on the home device, else in the home's node, else among all.
    """

    def __init__(self, expert_LP: np.ndarray, devices: int, cluster: ClusterConfig) -> None:
        self.slots_per_device = expert_LP.shape[1] // devices
        self.slots_per_node = expert_LP.shape[1] // cluster.nodes
        self.devices_per_node = devices // cluster.nodes
        self.nearest = cluster.split == "nearest"
        self.slots: list[dict[int, tuple[int, ...]]] = []
        for row in expert_LP.tolist():
            held: dict[int, tuple[int, ...]] = {}
            for slot, expert in enumerate(row):
                if expert >= 0:
                    held[expert] = (*held.get(expert, ()), slot)
            self.slots.append(held)
        self.fallen: Counter[tuple[int, tuple[int, ...]]] = Counter()

    def begin_step(self) -> None:
        """Start to count anew."""
        self.fallen.clear()

    def slot(self, layer: int, expert: int, home: int) -> int:
        """Return the slot of the next selection of an expert by a token of a home device."""
        among = self._among(layer, expert, home)
        turn = self.fallen[layer, among]
        self.fallen[layer, among] += 1
        return among[turn % len(among)]

    def _among(self, layer: int, expert: int, home: int) -> tuple[int, ...]:
        """Return the replicas that a selection falls to."""
        replicas = self.slots[layer][expert]
        if not self.nearest:
            return replicas
        here = tuple(slot for slot in replicas if slot // self.slots_per_device == home)
        node = home // self.devices_per_node
        return here or tuple(slot for slot in replicas if slot // self.slots_per_node == node) or replicas
