"""The shape of a cluster: devices, nodes, and the slots for experts on every device."""

from __future__ import annotations

from dataclasses import dataclass

from moe_replay.traces.command_line.number_limits import MOST_DEVICES
from moe_replay.traces.errors import InputError

MOST_SLOTS = 2**18


@dataclass(frozen=True)
class ClusterShape:
    """`devices` in `nodes` (equally many in each), with `slots_per_device` slots for experts of every layer.

    Device d is in node d // (devices / nodes), slot p on device p // slots_per_device. InputError for sizes that
    cannot be.
    """

    devices: int
    nodes: int = 1
    slots_per_device: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.devices <= MOST_DEVICES:
            raise InputError(f"devices is {self.devices}, allowed: integers 1..{MOST_DEVICES:,}")
        if self.nodes < 1 or self.devices % self.nodes:
            raise InputError(f"{self.devices} devices in {self.nodes} nodes, allowed: equally many in each")
        if self.slots_per_device < 1 or self.slots > MOST_SLOTS:
            raise InputError(f"{self.slots:,} slots on {self.devices} devices, allowed: 1..{MOST_SLOTS:,} in all")

    @property
    def slots(self) -> int:
        """Slots of all devices, P."""
        return self.devices * self.slots_per_device

    @property
    def devices_per_node(self) -> int:
        """Devices of a node."""
        return self.devices // self.nodes


def shape_for(experts: int, devices: int, nodes: int = 1, redundant: int = 0) -> ClusterShape:
    """Return the shape with room for every expert and `redundant` replicas: as few slots on each device as hold them.

    What is left over on the devices stays empty. InputError where replicas would have to share a device, or where
    there are more devices than slots to fill.
    """
    if redundant < 0:
        raise InputError(f"redundant experts are {redundant}, allowed >= 0")
    ClusterShape(devices, nodes)  # refuses devices and nodes that cannot be
    if devices > experts + redundant:
        raise InputError(f"devices is {devices}, allowed: at most one for each of the {experts + redundant} slots")
    if experts + redundant > experts * devices:
        raise InputError(
            f"{redundant} redundant experts on {devices} devices, allowed at most {experts * (devices - 1)}: every "
            f"device holds an expert once"
        )
    return ClusterShape(devices, nodes, -(-(experts + redundant) // devices))
