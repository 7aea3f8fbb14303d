"""One device as a process of torch.distributed: NCCL between GPUs, gloo between processes on a CPU.

Run by `collect ports`: `python -m moe_replay.collect.ports.distributed_device DEVICE DEVICES BACKEND STORE`, with the
lines of `socket_device`. One collective carries a whole exchange, so its messages begin and end together on a device.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

import torch
from torch import distributed

from moe_replay.collect.devices import synchronise
from moe_replay.collect.ports.pacing import sleep_until
from moe_replay.collect.ports.socket_device import serve

AWAKE_NS = 2_000_000  # before an exchange begins: a device that slept until then would be late by some 50 us


class DistributedDevice:
    """A member of the group of all devices, on the GPU of its number or on the CPU."""

    def __init__(self, device: int, devices: int, backend: str, store: str) -> None:
        self.number, self.devices = device, devices
        self.device = torch.device("cuda", device) if backend == "nccl" else torch.device("cpu")
        if backend == "nccl":
            torch.cuda.set_device(self.device)
        torch.set_num_threads(1)
        distributed.init_process_group(backend, init_method=f"file://{store}", rank=device, world_size=devices)

    def exchange(self, asked: dict, begun: Callable[[], int]) -> dict:
        """Carry out an exchange by one all-to-all; return when it began and ended here, for each message."""
        sizes = [[dict(asked[way]).get(each, 0) for each in range(self.devices)] for way in ("out", "into")]
        sent, received = (torch.zeros(sum(each), dtype=torch.uint8, device=self.device) for each in sizes)
        synchronise(self.device)
        begin_ns = begun()
        sleep_until(begin_ns - AWAKE_NS)
        while time.monotonic_ns() < begin_ns:
            pass
        began_ns = time.monotonic_ns()
        distributed.all_to_all_single(received, sent, sizes[1], sizes[0])
        synchronise(self.device)
        ended_ns = time.monotonic_ns()
        return {
            "started": [(each, began_ns) for each, _ in asked["out"]],
            "ended": [(each, ended_ns) for each, _ in asked["into"]],
        }


def main() -> None:
    """Talk to `collect ports` by lines of JSON; there are no ports of its own to tell."""
    number, devices, backend, store = sys.argv[1:5]
    print(json.dumps(0), flush=True)
    sys.stdin.readline()
    device = DistributedDevice(int(number), int(devices), backend, store)
    print(json.dumps({"torch": torch.__version__}), flush=True)
    serve(device.exchange)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
