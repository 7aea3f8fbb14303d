"""What the schedulers of linked devices share: ports, and the messages that they carry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moe_replay.simulate.policies.scheduler import Scheduler

if TYPE_CHECKING:
    from moe_replay.simulate.policies.batch import Batch
    from moe_replay.simulate.policies.cluster.ports import Message, Ports


class LinkedScheduler(Scheduler):
    """Base class: a subclass makes messages and handles in `deliver` what its `ports` deliver.

    `messages` are all that were made, in that order.
    """

    ports: Ports
    messages: list[Message]

    def send(self, message: Message, now: int) -> None:
        """Put a message that was made now into the queue of its port out."""
        message.queued_ns = now
        self.messages.append(message)
        self.ports.send(message)

    def begin_messages(self, now: int) -> None:
        """Let free ports take their first messages."""
        self.ports.take(now)

    def next_message(self) -> int | None:
        """Return when something happens at a port next."""
        return self.ports.next_ns

    def retire(self, batch: Batch) -> tuple[list[int], list[int]]:
        """Nothing moves on before the device is released."""
        return [], []

    def enqueue(self, passes: list[int], now: int) -> None:
        """Nothing: `release` has put what follows a batch into the queues."""
