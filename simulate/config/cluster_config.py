"""What is asked of a cluster: its nodes and links, how tokens are exchanged, and how a step is cut up."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass

from moe_replay.traces.clusters.link_file import MODES, UNITS, LinkFile
from moe_replay.traces.command_line.number_limits import LARGEST, MOST, MOST_DEVICES, checked
from moe_replay.traces.errors import InputError, unknown_name

SPLITS = ("round-robin", "nearest")
HOMES = ("trace", "sequence", "row")
WORDS = {"mode": MODES, "unit": UNITS, "split": SPLITS, "homes": HOMES}
LIMITS = {
    "nodes": (1, MOST_DEVICES), "nics": (1, MOST_DEVICES), "micro_batches": (1, MOST_DEVICES),
    "inside_latency_ns": (0, LARGEST), "network_latency_ns": (0, LARGEST),
    "dispatch_bytes": (1, MOST), "combine_bytes": (1, MOST), "shared_experts": (0, MOST_DEVICES),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """The links between the devices of a run, which are in `nodes` of equal size (DESIGN: "Devices and links").

    `links` is what they are called. A device has a port out and one in inside its node; a node has `nics` network ports
    (None: one for each device). A message takes latency + bytes / bandwidth. A token takes `dispatch_bytes` to its
    experts and `combine_bytes` back, once for each `unit`, a device or a selection; in `mode` hierarchical messages
    cross the network once for each node. A step is cut into `micro_batches`. `split` shares selections out over
    an expert's replicas. `homes`: where tokens are at home: on the rank that the trace tells, else by sequence; by
    `sequence` or `row` modulo the devices. `shared_experts` run at home on all of its tokens while messages travel,
    each at the cost of an expert; 0: the dense block's cost holds them.
    Raises InputError for an unknown word or a value out of range.
    """

    links: str
    inside_latency_ns: int
    inside_bytes_per_s: float
    network_latency_ns: int
    network_bytes_per_s: float
    dispatch_bytes: int
    combine_bytes: int
    nodes: int = 1
    nics: int | None = None
    mode: str = "direct"
    unit: str = "device"
    micro_batches: int = 1
    split: str = "round-robin"
    homes: str = "trace"
    shared_experts: int = 0

    def __post_init__(self) -> None:
        for name, known in WORDS.items():
            if getattr(self, name) not in known:
                raise unknown_name(name, getattr(self, name), known)
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if value is None and name == "nics":
                continue
            if type(value) is not int or not low <= value <= high:
                raise InputError(f"{name} is {value!r}, allowed: integers {low}..{high:,}")
        for name in ("inside_bytes_per_s", "network_bytes_per_s"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 1:
                raise InputError(f"{name} is {value!r}, allowed: numbers >= 1")
            checked(f"{name} is {value!r}", value, infinite=True)

    def check_devices(self, devices: int) -> None:
        """Refuse devices that are not equally many in every node, and more network ports than a node has devices."""
        if devices % self.nodes:
            raise InputError(f"{devices} devices in {self.nodes} nodes, allowed: equally many in each")
        if self.nics is not None and self.nics > devices // self.nodes:
            raise InputError(f"nics is {self.nics}, allowed: 1..{devices // self.nodes}, the devices of a node")

    def check_queues(self) -> None:
        """Refuse what queues do not have: a step to cut, and relays, which wait for the parts of a step."""
        if self.micro_batches != 1:
            raise InputError(f"micro_batches is {self.micro_batches}, allowed 1 under queues: they have no step to cut")
        if self.mode != "direct":
            raise InputError(f"mode {self.mode!r} is for lockstep, allowed under queues: 'direct'")

    def under(self, scheduler: str) -> ClusterConfig:
        """Return it without what means nothing under a scheduler: queues have no micro-batches."""
        return self if scheduler == "lockstep" else dataclasses.replace(self, micro_batches=1)

    @classmethod
    def from_dict(cls, fields: dict) -> ClusterConfig:
        """Return the cluster in a record header; InputError if it has a field this version does not know."""
        known = [field.name for field in dataclasses.fields(cls)]
        if unknown := sorted(fields.keys() - set(known)):
            raise unknown_name("field of a run's cluster", unknown[0], known)
        return cls(**fields)

    @property
    def name(self) -> str:
        """The part of a run's file name: what one varies in words, the rest as a digest."""
        digest = hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:8]
        varied = [f"N{self.nodes}", f"M{self.micro_batches}", self.mode, self.split.replace("-", "_")]
        return "-".join([*varied, f"links={digest}"])


def speeds(found: LinkFile) -> dict:
    """Return the fields of a cluster that a link file fills."""
    names = ("inside_latency_ns", "inside_bytes_per_s", "network_latency_ns", "network_bytes_per_s", "nics")
    return {name: getattr(found, name) for name in names}
