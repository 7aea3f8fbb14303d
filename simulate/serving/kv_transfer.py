"""What a pool of prompts sends to the pool that decodes: the keys and values of every prompt token, over the ports.

One message goes from each device that is home to tokens of the prompt to the sequence's home in the second pool. The
ports are those of the cluster: one message at a time, first come, first served. Messages of steps do not slow them, nor
they those: the two pools exchange tokens over ports of their own time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.policies.cluster.ports import CACHE, Message, Ports

HomesOf = Callable[[int, np.ndarray], np.ndarray]  # (sequence, rows) -> home device of each row in its pool


class KvTransfer:
    """Carries prompts from devices 0..first-1, where they were computed, to the devices behind these.

    `kv_bytes` of a token; `from_homes` and `to_homes` are the homes of each pool, numbered from 0. `sent_bytes_G`
    counts what of every sequence was sent.
    """

    def __init__(
        self, devices: int, first: int, cluster: ClusterConfig, kv_bytes: int, from_homes: HomesOf, to_homes: HomesOf
    ) -> None:
        self.ports, self.first, self.kv_bytes = Ports(devices, cluster), first, kv_bytes
        self.from_homes, self.to_homes = from_homes, to_homes
        self.under_way: Counter[int] = Counter()
        self.sent_bytes_G: Counter[int] = Counter()
        self.messages: list[Message] = []

    def send(self, sequence: int, prompt_rows: np.ndarray, next_row: int, now: int) -> None:
        """Send what was computed of a prompt to where its next row is at home, homes ascending."""
        (to,) = self.to_homes(sequence, np.array([next_row]))
        homes, count = np.unique(self.from_homes(sequence, prompt_rows), return_counts=True)
        for home, tokens in zip(homes.tolist(), count.tolist(), strict=True):
            # Where a message of a step says whose tokens it carries, this one says of which sequence it is.
            message = Message(0, 0, CACHE, home, self.first + int(to), sequence, tokens, tokens * self.kv_bytes, now)
            self.under_way[sequence] += 1
            self.sent_bytes_G[sequence] += message.bytes
            self.messages.append(message)
            self.ports.send(message)

    def delivered(self, now: int) -> list[int]:
        """Let happen at the ports what is due; return the sequences whose prompts are there, in order."""
        there = []
        for message in self.ports.due(now):
            self.under_way[message.home] -= 1
            if not self.under_way[message.home]:
                there.append(message.home)
        return there

    def take(self, now: int) -> None:
        """Let free ports take their first messages."""
        self.ports.take(now)

    @property
    def next_ns(self) -> int | None:
        """When something happens at a port next."""
        return self.ports.next_ns
