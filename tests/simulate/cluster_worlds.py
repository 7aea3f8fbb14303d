"""Worlds of linked devices: placements with replicas and empty slots, homes, ties and messages of no length."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from random_worlds import costs, workloads

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.placement import PLACEMENTS, FilePlacement
from moe_replay.traces.placements.expert_placement import ExpertPlacement


def cluster(**fields):
    """Return links of 1 byte per ns without latency inside nodes and on the network, unless asked otherwise."""
    plain = {
        "links": "test", "inside_latency_ns": 0, "inside_bytes_per_s": 1e9, "network_latency_ns": 0,
        "network_bytes_per_s": 1e9, "dispatch_bytes": 1, "combine_bytes": 1,
    }  # fmt: skip
    return ClusterConfig(**{**plain, **fields})


def placed(expert_LP, experts, devices, nodes=1):
    """Return the name under which a placement is registered for the tests of this process."""
    expert_LP = np.array(expert_LP, np.int16)
    held = ExpertPlacement(
        model="m", experts=experts, devices=devices, nodes=nodes, layer_ids=tuple(range(len(expert_LP))),
        expert_LP=expert_LP,
    )  # fmt: skip
    name = f"test_{held.digest[:12]}"
    if name not in PLACEMENTS:
        PLACEMENTS.register(name, FilePlacement(name, held))
    return name


def net_of(asked, devices):
    """Return the links between so many devices as the plain models take them."""
    return {
        "inside": (asked.inside_latency_ns, asked.inside_bytes_per_s), "unit": asked.unit, "mode": asked.mode,
        "network": (asked.network_latency_ns, asked.network_bytes_per_s), "split": asked.split,
        "nics": asked.nics or devices // asked.nodes, "dispatch": asked.dispatch_bytes,
        "combine": asked.combine_bytes,
    }  # fmt: skip


def rows_of(columns, names):
    """Return the rows of a table, of some of its columns."""
    return np.stack([columns[name].astype(np.int64) for name in names], 1).tolist()


def linked(workload, homes, placement, devices, asked, **fields):
    """Return (workload with these homes, configuration) of a run over linked devices, in lockstep unless asked."""
    settings = {"scheduler": "lockstep", "devices": devices, "placement": placement, "cluster": asked, **fields}
    return replace(workload, home_T=np.array(homes, np.int64)), RunConfig(**settings)


@st.composite
def placements(draw, layers, experts, devices, nodes):
    """Draw a placement of random slots, with replicas on other devices and empty slots."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    per_device = draw(st.integers(-(-experts // devices), experts))
    expert_LP = np.full((layers, devices, per_device), -1, np.int16)
    for layer in range(layers):
        for expert in range(experts):
            free = [d for d in range(devices) if (expert_LP[layer, d] < 0).any()]
            put(expert_LP[layer, rng.choice(free)], expert, rng)
        for _ in range(draw(st.integers(0, 4))):
            expert, device = rng.integers(experts), rng.integers(devices)
            held = expert_LP[layer, device]
            if (held < 0).any() and expert not in held:
                put(held, expert, rng)
    return placed(expert_LP.reshape(layers, -1), experts, devices, draw(st.sampled_from([1, nodes])))


def put(held, expert, rng):
    """Put an expert into a random empty slot of a device."""
    held[rng.choice(np.flatnonzero(held < 0))] = expert


@st.composite
def links(draw, nodes, in_node, shared=(0,)):
    """Draw links, often without latency or length, so that much happens at one instant; `shared` experts at home."""
    return cluster(
        nodes=nodes, nics=draw(st.none() | st.integers(1, in_node)),
        inside_latency_ns=draw(st.sampled_from([0, 0, 1, 5])), network_latency_ns=draw(st.sampled_from([0, 1, 7, 40])),
        inside_bytes_per_s=draw(st.sampled_from([1e9, 2e9, 1e12, float("inf")])),
        network_bytes_per_s=draw(st.sampled_from([1e9, 3e8, float("inf")])),
        dispatch_bytes=draw(st.sampled_from([1, 2, 5])), combine_bytes=draw(st.sampled_from([1, 3, 10])),
        unit=draw(st.sampled_from(["device", "selection"])), mode=draw(st.sampled_from(["direct", "hierarchical"])),
        split=draw(st.sampled_from(["round-robin", "nearest"])), micro_batches=draw(st.sampled_from([1, 1, 2, 3])),
        shared_experts=draw(st.sampled_from(shared)),
    )  # fmt: skip


@st.composite
def arrivals(draw):
    """Draw how passes arrive."""
    fields = {"arrivals": draw(st.sampled_from(["all", "closed", "poisson", "steps", "recorded"]))}
    if fields["arrivals"] == "closed":
        fields["in_flight"] = draw(st.integers(1, 4))
    if fields["arrivals"] == "poisson":
        fields |= {"rate_per_s": draw(st.sampled_from([2e7, 1e8, 1e9])), "seed": draw(st.integers(0, 9))}
    return fields


@st.composite
def on_devices(draw, placed_by_rule=True):
    """Draw a workload, homes, a placement, devices and the links between them."""
    workload = draw(workloads(max_experts=6))
    nodes, in_node = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    devices, rows = nodes * in_node, len(workload.experts_TLK)
    in_turn = draw(st.booleans())
    homes = np.arange(rows) % devices if in_turn else [draw(st.integers(0, devices - 1)) for _ in range(rows)]
    placement = draw(placements(workload.layers, workload.experts, devices, nodes))
    if devices <= workload.experts and placed_by_rule and draw(st.booleans()):
        placement = "contiguous"
    return workload, homes, placement, devices, draw(links(nodes, in_node, (0, 0, 1, 2)))


@st.composite
def queue_runs(draw, **fields):
    """Draw the arguments of a run of queues over linked devices, as `cluster_runs` does of lockstep."""
    *where, asked = draw(on_devices())
    queues = {
        "scheduler": "queues", "queue_size": draw(st.integers(1, 4) | st.just(1000)),
        "dense_queue_size": draw(st.none() | st.integers(1, 3)), "timeout_ns": draw(st.none() | st.integers(0, 30)),
        "dense": draw(st.booleans()), **draw(arrivals()), **fields,
    }  # fmt: skip
    asked = replace(asked, mode="direct", micro_batches=1)
    return *linked(*where, asked, **queues), draw(costs())


@st.composite
def cluster_runs(draw, one_step=False):
    """Draw the arguments of a run over linked devices: workload, configuration, cost; `one_step`: all in one step."""
    drawn = draw(on_devices(placed_by_rule=not one_step))
    fields = {} if one_step else {"max_step": draw(st.none() | st.integers(1, 3)), **draw(arrivals())}
    workload, config = linked(*drawn, dense=draw(st.booleans()), **fields)
    if one_step:
        workload = replace(workload, round_P=np.zeros_like(workload.round_P), group_P=np.arange(workload.passes))
    return workload, config, draw(costs())
