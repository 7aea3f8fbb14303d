"""What serves: one device or linked ones, in one pool or in a pool for prompts and one for decoding."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.serving.composition import Demand, Engine, arrivals, sequences_of
from moe_replay.simulate.serving.kv_transfer import KvTransfer
from moe_replay.simulate.serving.pool import Pool, Service
from moe_replay.simulate.serving.step_clocks import cluster_clock, lockstep_clock
from moe_replay.traces.errors import InputError
from moe_replay.traces.selections import Trace

POOLS = ("prefill", "decode")


@dataclass(frozen=True)
class System:
    """The machine that serves: `devices` under a `placement`, linked as `cluster` says; None: one device.

    `pools` are the devices for prompts and for decoding, None: all of them for both. A token of a prompt takes
    `kv_bytes` from the first pool to the second. `dense`: whether dense blocks take time; `runs_on`: the engine that
    works out steps. InputError for what does not fit together.
    """

    devices: int = 1
    placement: str = "contiguous"
    cluster: ClusterConfig | None = None
    pools: tuple[int, int] | None = None
    kv_bytes: int = 0
    dense: bool = True
    runs_on: str = "auto"

    def __post_init__(self) -> None:
        if self.cluster is None and (self.devices > 1 or self.pools is not None):
            raise InputError(f"{self.devices} devices serve together over links, allowed: --links, or one device")
        if self.cluster is None and self.placement != "contiguous":
            raise InputError("--placement has no meaning on one device, allowed: with --links")
        if self.cluster is not None:
            self.cluster.check_devices(self.devices)
        if self.pools is None:
            if self.kv_bytes:
                raise InputError("--kv-bytes has no meaning without --pools: nothing is sent from pool to pool")
            return
        if sum(self.pools) != self.devices or min(self.pools) < 1:
            raise InputError(f"pools of {self.pools[0]} and {self.pools[1]} devices, allowed: {self.devices} in all")
        if self.cluster.homes == "row":
            raise InputError("--homes row: a sequence keeps its home in a pool; allowed with --pools: trace, sequence")
        for pool in self.pools:
            self.cluster_of(pool)

    def cluster_of(self, devices: int) -> ClusterConfig:
        """Return the links of a pool, whole nodes or a part of one; InputError for another."""
        in_node = self.devices // self.cluster.nodes
        if devices % in_node == 0:
            return replace(self.cluster, nodes=devices // in_node)
        if self.cluster.nodes > 1:
            raise InputError(
                f"a pool of {devices} devices, allowed: whole nodes of {in_node}, or any number within a single node"
            )
        return replace(self.cluster, nics=None)

    @property
    def asked(self) -> dict:
        """What a header says of it; nothing of one device."""
        if self.cluster is None:
            return {}
        pools = None if self.pools is None else dict(zip(POOLS, self.pools, strict=True))
        fields = {"devices": self.devices, "placement": self.placement, "cluster": vars(self.cluster), "pools": pools}
        return fields | {"kv_bytes_per_token": self.kv_bytes}

    @property
    def unmodelled(self) -> list[str]:
        """What the times leave out, a line each."""
        if self.pools is None:
            return []
        if not self.kv_bytes:
            return ["from pool to pool: 0 bytes for a prompt's token, so that decoding begins at once (--kv-bytes)"]
        return ["from pool to pool: prompts and messages of steps do not slow each other"]


def new_service(
    trace: Trace, engine: Engine, demand: Demand, system: System, cost: Cost
) -> tuple[Service, np.ndarray, np.ndarray]:
    """Return (a service of a trace's sequences, index into `sequences_S`, arrival ns), the latter of every sequence.

    `cost(layer, block, tokens)` in ns. InputError where a prompt never fits into a step, arrivals are asked for that
    were not recorded, or devices, placements and ranks do not fit.
    """
    order_G, arrival_ns_G = arrivals(trace, demand)
    sequences = sequences_of(trace, order_G, engine)
    if system.cluster is None:
        pools, transfer = [Pool(engine, lockstep_clock(trace, cost, system.dense))], None
    else:
        pools, transfer = linked_pools(trace, engine, system, cost)
    return Service(sequences, arrival_ns_G, pools, transfer), order_G, arrival_ns_G


def linked_pools(trace: Trace, engine: Engine, system: System, cost: Cost) -> tuple[list[Pool], KvTransfer | None]:
    """Return the pools of linked devices, and what carries prompts between them where that takes any bytes."""
    clocks = [
        cluster_clock(trace, cost, system.dense, devices, system.placement, system.cluster_of(devices), system.runs_on)
        for devices in system.pools or (system.devices,)
    ]
    if system.pools is None:
        return [Pool(engine, clocks[0])], None
    pools = [Pool(engine, clocks[0], prompts_only=True), Pool(engine, clocks[1])]
    if not system.kv_bytes:
        return pools, None
    homes = [clock.homes_of for clock in clocks]
    return pools, KvTransfer(system.devices, system.pools[0], system.cluster, system.kv_bytes, *homes)
