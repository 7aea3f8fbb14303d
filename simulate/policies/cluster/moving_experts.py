"""Lockstep over linked devices while experts move: ports that carry them, and steps that wait for those they need."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.simulate.policies.cluster.cluster_lockstep import ClusterLockstep
from moe_replay.simulate.policies.cluster.ports import WEIGHTS, Message, Ports

if TYPE_CHECKING:
    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.simulate.config.workload import Workload

Copy = tuple[int, int, int]  # (layer, expert, device that gets it)


class SharedPorts(Ports):
    """The ports of a configuration, which carry experts beside the messages of steps; `moved` came, in that order.

    Experts wait in the queues of ports out as all messages do, or, `behind`, until there is no other.
    """

    def __init__(self, config: RunConfig, behind: bool = False) -> None:
        super().__init__(config.devices, config.cluster)
        self.behind, self.moved = behind, []
        self.later: list[deque[Message]] = [deque() for _ in self.out]

    def send(self, message: Message) -> None:
        """Put a message into the queue of its port out, or behind all others."""
        super().send(message)
        if self.behind and message.kind == WEIGHTS:
            self.later[message.port_out].append(self.out[message.port_out].pop())

    def take(self, now: int) -> None:
        """Let free ports in, ascending, take their first message, then free ports out."""
        for waiting, later, free in zip(self.out, self.later, self.free_out, strict=True):
            if later and free and not waiting:
                waiting.append(later.popleft())
        super().take(now)

    @property
    def busy(self) -> bool:
        """Whether anything is on ports or waits for one."""
        return self.next_ns is not None or any(map(any, (self.out, self.into, self.later)))

    def due(self, now: int) -> list[Message]:
        """Let happen what is due; return the messages of steps that are delivered, ports in ascending."""
        delivered = super().due(now)
        self.moved += [message for message in delivered if message.kind == WEIGHTS]
        return [message for message in delivered if message.kind != WEIGHTS]


class MovingLockstep(ClusterLockstep):
    """A step on ports where experts may be under way: a device's slots run when tokens and weights are there.

    `awaited` are the copies under way that the slots need. Those that come at one instant are noted behind its other
    messages.
    """

    def __init__(
        self, workload: Workload, config: RunConfig, slots_LP: np.ndarray | None, ports: SharedPorts, awaited: set[Copy]
    ) -> None:
        super().__init__(workload, config, slots_LP)
        self.slots_LP, self.ports, self.awaited = slots_LP, ports, set(awaited)
        self.waiting: list[tuple[int, int, int]] = []  # (micro-batch, layer, device) whose tokens are there

    def run_active(self, micro_batch: int, layer: int, device: int, now: int) -> None:
        """Enqueue a device's active slots together, ascending, unless weights of theirs are under way."""
        if self.awaited and any(
            (layer, int(self.slots_LP[layer, slot]), device) in self.awaited
            for slot in self.active(micro_batch, layer, device)
        ):
            self.waiting.append((micro_batch, layer, device))
        else:
            super().run_active(micro_batch, layer, device, now)

    def deliver(self, now: int) -> list[int]:
        """Let happen at the ports what is due; return the passes of a step that ends."""
        finished = super().deliver(now)
        if not self.awaited:
            return finished
        came = self.awaited & {(each.layer, each.home, each.destination) for each in self.ports.moved}
        if came:
            self.awaited -= came
            waiting, self.waiting = self.waiting, []
            for place in waiting:
                self.run_active(*place, now)
        return finished
