"""Ports: what devices and nodes send and receive through, one message at a time, first come, first served.

A message is on its port out for bytes / bandwidth. Its head is at the port in after the latency; once that port is
free the message takes as long there and is then delivered (cut-through). A queue at a port in holds nobody up at
the port out.
"""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.traces.command_line.number_limits import LAST_NS

DISPATCH, COMBINE = range(2)  # kinds of messages of a step
WEIGHTS, CACHE = range(2, 4)  # and beside steps: an expert that moves, what was computed of a prompt
DELIVERED, HEAD, FREE = range(3)  # what happens at ports, in the order in which an instant handles it


@dataclass(slots=True, eq=False)
class Message:
    """What one device sends another: `tokens` copies on their way to experts (`dispatch`) or back (`combine`).

    `home` is the device whose tokens they are, which a relay may send on. `start_ns` is on the port out, `end_ns` when
    all of it is there.
    """

    micro_batch: int
    layer: int
    kind: int
    source: int
    destination: int
    home: int
    tokens: int
    bytes: int
    queued_ns: int
    start_ns: int = -1
    end_ns: int = -1
    port_out: int = -1
    port_in: int = -1
    wire_ns: int = 0
    latency_ns: int = 0


class Ports:
    """All ports of a cluster, in numbers: devices 0..D-1 inside their nodes, then the network ports node by node."""

    def __init__(self, devices: int, cluster: ClusterConfig) -> None:
        self.cluster, self.devices = cluster, devices
        self.devices_per_node = devices // cluster.nodes
        self.nics = cluster.nics or self.devices_per_node
        ports = devices + cluster.nodes * self.nics
        self.out: list[deque[Message]] = [deque() for _ in range(ports)]
        self.into: list[deque[Message]] = [deque() for _ in range(ports)]
        self.free_out, self.free_in = [True] * ports, [True] * ports
        self.calendar: list[tuple[int, int, int, int, Message]] = []  # (when, what, port, number, message)
        self.numbered = 0

    def network_port(self, device: int) -> int:
        """Return the network port that a device uses."""
        node, place = divmod(device, self.devices_per_node)
        return self.devices + node * self.nics + place * self.nics // self.devices_per_node

    def send(self, message: Message) -> None:
        """Put a message into the queue of its port out."""
        ends = message.source, message.destination
        inside = len({device // self.devices_per_node for device in ends}) == 1
        of = self.cluster
        message.port_out, message.port_in = ends if inside else map(self.network_port, ends)
        message.latency_ns = of.inside_latency_ns if inside else of.network_latency_ns
        message.wire_ns = wire_ns(message.bytes, of.inside_bytes_per_s if inside else of.network_bytes_per_s)
        self.out[message.port_out].append(message)

    @property
    def next_ns(self) -> int | None:
        """When something happens at a port next; None where nothing is under way."""
        return self.calendar[0][0] if self.calendar else None

    def due(self, now: int) -> list[Message]:
        """Let happen what is due; return the messages that are delivered, ports in ascending.

        Then heads arrive, by port out, and then ports out are free again.
        """
        happened = []
        while self.calendar and self.calendar[0][0] <= now:
            happened.append(heapq.heappop(self.calendar)[1:])
        delivered = []
        for what, port, _, message in sorted(happened, key=lambda each: each[:3]):
            if what == DELIVERED:
                self.free_in[port] = True
                delivered.append(message)
            elif what == HEAD:
                self.into[message.port_in].append(message)
            else:
                self.free_out[port] = True
        return delivered

    def take(self, now: int) -> None:
        """Let free ports in, ascending, take their first message, then free ports out."""
        for port, waiting in enumerate(self.into):
            if waiting and self.free_in[port]:
                message = waiting.popleft()
                self.free_in[port] = False
                message.end_ns = now + message.wire_ns
                self._note(message.end_ns, DELIVERED, port, message)
        for port, waiting in enumerate(self.out):
            if waiting and self.free_out[port]:
                message = waiting.popleft()
                self.free_out[port] = False
                message.start_ns = now
                self._note(now + message.latency_ns, HEAD, port, message)
                self._note(now + message.wire_ns, FREE, port, message)

    def _note(self, when: int, what: int, port: int, message: Message) -> None:
        self.numbered += 1
        heapq.heappush(self.calendar, (when, what, port, self.numbered, message))


def wire_ns(size: int, bytes_per_s: float) -> int:
    """Return how long so many bytes are on a port, rounded to whole ns (halves to even), at most the clock's end."""
    taken_ns = size * 1e9 / bytes_per_s
    return round(taken_ns) if taken_ns < LAST_NS else LAST_NS
