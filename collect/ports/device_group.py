"""All devices of an exchange as processes of this machine: started, asked line by line, ended."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from moe_replay.collect.ports.exchange_ways import Way
from moe_replay.traces.command_line.child_process import die_with_parent
from moe_replay.traces.errors import InputError

LEAD_NS = 5_000_000  # from telling the devices when an exchange begins until it does
PATIENCE_S = 120.0  # beside what an exchange takes at its pace: then a device that says nothing is taken for dead

Message = tuple[int, int, int, int, int]  # (source, destination, bytes, start_ns, end_ns), since the exchange began


class DeviceGroup:
    """Processes that exchange bytes; used with `with`. `about` is what they said of themselves."""

    def __init__(self, way: Way, devices: int) -> None:
        self.way, self.devices, self.about = way, devices, {}
        self.processes: list[subprocess.Popen] = []
        self.store = tempfile.TemporaryDirectory()

    def __enter__(self) -> DeviceGroup:
        try:
            for device in range(self.devices):
                words = self.way.words(device, self.devices, str(Path(self.store.name) / "group"))
                self.processes.append(subprocess.Popen(
                    [sys.executable, "-m", *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                    preexec_fn=die_with_parent,
                ))  # fmt: skip
            self.tell([self.heard(PATIENCE_S)] * self.devices)
            self.about = self.heard(PATIENCE_S)[0]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.processes:
            with contextlib.suppress(OSError):
                process.stdin.close()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3.0)
            process.kill()
            process.wait()
            process.stdout.close()
        self.store.cleanup()

    def exchange(self, bytes_DD: np.ndarray) -> list[Message]:
        """Return the messages of one exchange; device i sends to i+1, i+2, ... (mod D), as the port model has it."""
        pace = self.way.bytes_per_s
        self.tell([
            {"out": list(others(bytes_DD, device)), "into": list(others(bytes_DD.T, device)), "bytes_per_s": pace}
            for device in range(self.devices)
        ])  # fmt: skip
        patience_s = PATIENCE_S + 3 * float(bytes_DD.sum()) / (pace or 1e7)
        self.heard(patience_s)
        begin_ns = time.monotonic_ns() + LEAD_NS
        self.tell([begin_ns] * self.devices)
        answers = self.heard(patience_s)
        ended = {(source, device): at for device, each in enumerate(answers) for source, at in each["ended"]}
        return [
            (device, to, int(bytes_DD[device, to]), began - begin_ns, ended[device, to] - begin_ns)
            for device, each in enumerate(answers) for to, began in each["started"]
        ]  # fmt: skip

    def tell(self, said: list) -> None:
        """Send each device a line; InputError where one has gone."""
        for device, (process, each) in enumerate(zip(self.processes, said, strict=True)):
            try:
                process.stdin.write(json.dumps(each) + "\n")
                process.stdin.flush()
            except OSError:
                raise self.gone(device) from None

    def heard(self, patience_s: float) -> list:
        """Return the next line of every device; InputError where one has gone, or says nothing for so long."""
        watchdog = threading.Timer(patience_s, lambda: [process.kill() for process in self.processes])
        watchdog.start()
        try:
            return [self.line_of(device) for device in range(self.devices)]
        finally:
            watchdog.cancel()

    def line_of(self, device: int) -> object:
        """Return the next line of a device that is JSON: libraries may say something there too."""
        for line in self.processes[device].stdout:
            with contextlib.suppress(ValueError):
                return json.loads(line)
        raise self.gone(device)

    def gone(self, device: int) -> InputError:
        """Return what is said of a device that has gone; why is on its own standard error."""
        return InputError(f"--way {self.way.name}: device {device} of {self.devices} has ended or does not answer")


def others(bytes_DD: np.ndarray, device: int) -> Iterator[tuple[int, int]]:
    """Yield (other device, bytes) of one row, beginning behind the device itself, where there is anything."""
    devices = len(bytes_DD)
    for turn in range(1, devices):
        other = (device + turn) % devices
        if size := int(bytes_DD[device, other]):
            yield other, size
