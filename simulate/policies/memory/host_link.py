"""Links from host memory to a device's slots: transfers in the order in which they were asked for."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Transfer:
    """One expert on its way to a slot. `key` is layer * E + expert, `victim` the key that left the slot (-1: none).

    `slot` counts within the cache of the layer, or of all; `slot` C is where experts pass that the policy declines.
    `start_ns` is when the link began with it, `end_ns` when it was there; a driver fills in the latter.
    """

    link: int
    key: int
    slot: int
    victim: int
    prefetch: bool
    asked_ns: int
    start_ns: int = -1
    end_ns: int = -1


class Link:
    """A FIFO of transfers, of which one is on its way; a `wide` link carries all that wait at once."""

    def __init__(self, wide: bool = False) -> None:
        self.wide = wide
        self.waiting: deque[Transfer] = deque()
        self.moving = 0

    @property
    def busy(self) -> bool:
        """Whether a transfer waits or moves."""
        return self.moving > 0 or bool(self.waiting)

    def begin(self, now: int) -> list[Transfer]:
        """Return the transfers that begin now: the first that waits if none moves, all of them on a wide link."""
        begun = []
        while self.waiting and (self.wide or not self.moving):
            transfer = self.waiting.popleft()
            transfer.start_ns = now
            self.moving += 1
            begun.append(transfer)
        return begun

    def end(self) -> None:
        """Note that a transfer is there."""
        self.moving -= 1
