"""One device as a process: a socket to every other one, a sender and a receiver that keep the pace of a port each.

Run by `collect ports`: `python -m moe_replay.collect.ports.socket_device DEVICE DEVICES BUFFER_BYTES`. It says its
port, reads those of all, and then two lines of JSON for every exchange: what is sent, and, when every device is ready,
when it begins. `null` for the pace is as fast as the processor can.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from collections.abc import Callable

from moe_replay.collect.ports.pacing import Pace, sleep_until

HERE = "127.0.0.1"


class SocketDevice:
    """The sockets of one device. `buffer_bytes` is asked of the system for each socket, which may give less."""

    def __init__(self, device: int, devices: int, buffer_bytes: int) -> None:
        self.device, self.devices, self.buffer_bytes = device, devices, buffer_bytes
        self.listening = socket.socket()
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)  # what it accepts has it too
        self.listening.bind((HERE, 0))
        self.listening.listen(devices)
        self.out: dict[int, socket.socket] = {}
        self.into: dict[int, socket.socket] = {}

    @property
    def port(self) -> int:
        """The number under which others reach it."""
        return self.listening.getsockname()[1]

    def connect(self, ports: list[int]) -> int:
        """Connect with every other device; return the bytes that one connection really holds."""
        for other, port in enumerate(ports):
            if other != self.device:
                made = self.out[other] = socket.socket()
                made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.buffer_bytes)
                made.connect((HERE, port))
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                made.sendall(bytes([self.device]))
        for _ in range(self.devices - 1):
            accepted, _ = self.listening.accept()
            self.into[accepted.recv(1)[0]] = accepted
        sizes = [next(iter(self.out.values())).getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)]
        sizes += [next(iter(self.into.values())).getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)]
        return sum(sizes)

    def exchange(self, asked: dict, begun: Callable[[], int]) -> dict:
        """Send and receive what an exchange asks for; return when each message out began and each one in was there.

        `out` are (destination, bytes) in order, `into` likewise (source, bytes). `begun` tells when it begins.
        """
        asked = {**asked, "begin_ns": begun()}
        started: list[tuple[int, int]] = []
        faults: list[OSError] = []
        sender = threading.Thread(target=self.send, args=(asked, started, faults))
        sender.start()
        ended = self.receive(asked)
        sender.join()
        if faults:
            raise faults[0]
        return {"started": started, "ended": ended}

    def send(self, asked: dict, started: list[tuple[int, int]], faults: list[OSError]) -> None:
        """Send one message after another, each in pieces as the pace lets them pass; note when each began."""
        pace = Pace(asked["bytes_per_s"], asked["begin_ns"])
        piece = memoryview(bytearray(pace.chunk_bytes))
        sleep_until(asked["begin_ns"])
        try:
            for destination, left in asked["out"]:
                started.append((destination, time.monotonic_ns()))
                while left:
                    size = min(len(piece), left)
                    self.out[destination].sendall(piece[:size])
                    left -= size
                    pace.let_pass(size)
        except OSError as error:
            faults.append(error)

    def receive(self, asked: dict) -> list[tuple[int, int]]:
        """Receive all messages, from sources in turn where several have sent; return when each was there."""
        pace, left, ended = Pace(asked["bytes_per_s"], asked["begin_ns"]), dict(asked["into"]), []
        room = memoryview(bytearray(pace.chunk_bytes))
        source = self.device
        sleep_until(asked["begin_ns"])
        while left:
            ready, _, _ = select.select([self.into[each] for each in left], [], [])
            waiting = [each for each in left if self.into[each] in ready]
            source = min(waiting, key=lambda each: (each - source - 1) % self.devices)
            size = self.into[source].recv_into(room[: min(len(room), left[source])])
            if not size:
                raise ConnectionError(f"device {source} has gone")
            left[source] -= size
            pace.let_pass(size)
            if not left[source]:
                del left[source]
                ended.append((source, time.monotonic_ns()))
        return ended


def main() -> None:
    """Talk to `collect ports` by lines of JSON."""
    device = SocketDevice(*map(int, sys.argv[1:4]))
    print(json.dumps(device.port), flush=True)
    print(json.dumps({"buffer_bytes": device.connect(json.loads(sys.stdin.readline()))}), flush=True)
    serve(device.exchange)


def serve(exchange: Callable[[dict, Callable[[], int]], dict]) -> None:
    """Carry out every exchange that is asked for."""

    def begun() -> int:
        print(json.dumps("ready"), flush=True)
        return json.loads(sys.stdin.readline())

    while line := sys.stdin.readline():
        print(json.dumps(exchange(json.loads(line), begun)), flush=True)


if __name__ == "__main__":
    main()
