"""One exchange between linked devices by itself: every message is made at the same instant, and ports do the rest."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.policies.cluster.ports import DISPATCH, Message, Ports


def exchanged(bytes_DD: np.ndarray, cluster: ClusterConfig) -> list[Message]:
    """Return the messages of an exchange in the order in which they are made, with their times since it began.

    `bytes_DD` [D, D]: from device (row) to device (column); nothing is sent where it is 0, nor by a device to itself.
    A device i makes its messages for i+1, i+2, ... (mod D), as in a step.
    """
    devices = len(bytes_DD)
    ports, messages = Ports(devices, cluster), []
    for source in range(devices):
        for turn in range(1, devices):
            destination = (source + turn) % devices
            if size := int(bytes_DD[source, destination]):
                messages.append(Message(0, 0, DISPATCH, source, destination, source, 1, size, 0))
                ports.send(messages[-1])
    carry(ports)
    return messages


def carry(ports: Ports) -> None:
    """Let everything that waits at ports be delivered."""
    ports.take(0)
    while (now := ports.next_ns) is not None:
        ports.due(now)
        ports.take(now)


def one_link(latency_ns: int, bytes_per_s: float) -> ClusterConfig:
    """Return the cluster of one node whose devices are linked so; the network, which it does not need, is the same."""
    link = {"latency_ns": latency_ns, "bytes_per_s": bytes_per_s}
    fields = {f"{where}_{name}": value for where in ("inside", "network") for name, value in link.items()}
    return ClusterConfig(links="fitted", dispatch_bytes=1, combine_bytes=1, **fields)
