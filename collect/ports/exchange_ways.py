"""The ways in which an exchange is executed, by name: paced sockets, plain ones, torch.distributed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moe_replay.traces.errors import unknown_name

SOCKETS = "moe_replay.collect.ports.socket_device"
DISTRIBUTED = "moe_replay.collect.ports.distributed_device"


@dataclass(frozen=True)
class Way:
    """One way: the `module` that is a device, what `meaning` it has, and the bytes of a mean message of its exchanges.

    `bytes_per_s` None: as fast as it goes. `buffer_bytes` of every socket: what waits there keeps no sender waiting.
    """

    name: str
    module: str
    meaning: str
    message_bytes: int
    bytes_per_s: float | None = None
    buffer_bytes: int = 4 << 20

    def words(self, device: int, devices: int, store: str) -> tuple[str, ...]:
        """Return the words behind `python -m` that run a device."""
        own = (str(self.buffer_bytes),) if self.module == SOCKETS else (self.name, store)
        return (self.module, str(device), str(devices), *own)

    def about(self) -> dict:
        """Return what a log says of it."""
        found = {"meaning": self.meaning, "message_bytes": self.message_bytes, "bytes_per_s": self.bytes_per_s}
        return found | ({"asked_buffer_bytes": self.buffer_bytes} if self.module == SOCKETS else {})


RATE = 20e6  # bytes per second of a paced port, unless asked otherwise: slow enough for two cores
WAYS = {
    way.name: way
    for way in (
        Way("paced", SOCKETS, "TCP on loopback, every sender and receiver paced in user space", 500_000, RATE),
        Way("held", SOCKETS, "paced, small buffers: a full port in holds senders up", 500_000, RATE, 64 << 10),
        Way("loopback", SOCKETS, "TCP on loopback as fast as it goes: the processor is the limit", 8_000_000),
        Way("gloo", DISTRIBUTED, "all_to_all_single of torch.distributed, gloo between processes", 8_000_000),
        Way("nccl", DISTRIBUTED, "all_to_all_single of torch.distributed, NCCL between GPUs", 64_000_000),
    )
}  # fmt: skip
ON_CPU, ON_GPUS = ("paced", "held", "loopback"), ("nccl",)


def ways_named(names: list[str], bytes_per_s: float, message_bytes: int | None) -> list[Way]:
    """Return ways by name, the paced ones at this rate; InputError for an unknown name."""
    for name in names:
        if name not in WAYS:
            raise unknown_name("--way", name, WAYS)
    found = [WAYS[name] for name in dict.fromkeys(names)]
    return [
        replace(
            way, message_bytes=message_bytes or way.message_bytes,
            bytes_per_s=None if way.bytes_per_s is None else bytes_per_s,
        )
        for way in found
    ]  # fmt: skip
