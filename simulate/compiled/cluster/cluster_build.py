"""Makes the arrays of a run over linked devices from its workload and configuration."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.cluster.cluster_layout import (
    ARRAYS,
    CLUSTER,
    EVENT,
    LINKED_BATCH,
    MESSAGE,
    PORT,
    WORK,
    WORKER,
)
from moe_replay.simulate.compiled.pointers import Pointed
from moe_replay.simulate.compiled.run_build import FIRST_TOKENS, crc_tables, writable
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.policies.cluster.slot_table import expert_slots
from moe_replay.traces.command_line.memory_room import check_room

FIRST_RECORDS = 1 << 14


def new_cluster(
    workload: Workload, config: RunConfig, curve_LB: np.ndarray, slots_LP: np.ndarray | None = None
) -> Pointed:
    """Return the cluster of a run that has not begun; `curve_LB`: the cost curves of a layer's dense block and experts.

    `slots_LP`: the expert in every slot, -1 in an empty one; None: as the configuration's placement has it.
    Raises InputError as the reference engine does for a placement that does not fit, and where the counts of a step
    would take more memory than there is.
    """
    asked = config.cluster
    if slots_LP is None:
        slots_LP = expert_slots(config.placement, workload.layers, workload.experts, config.devices, asked)
    cluster = Pointed(CLUSTER, ARRAYS, **cluster_fields(workload, config, slots_LP.shape[1]))
    devices, nodes, parts, layers = config.devices, asked.nodes, asked.micro_batches, workload.layers
    places, slots, k = parts * layers, slots_LP.shape[1], workload.experts_TLK.shape[2]
    check_room("linked devices: pairs of them in every layer", places * devices, 4 * devices + 8 * nodes + 8)
    ports = devices + nodes * int(cluster.nics)
    cluster.put(
        **arrays_of(workload), step_P=np.zeros(1, np.int64), slots_LER=slots_of_experts(slots_LP, workload.experts),
        turns_VP=np.zeros((3 * layers, slots), np.int64), marked_D=np.zeros(devices, np.int64),
        marked_N=np.zeros(nodes, np.int64), of_home_D=np.zeros(devices, np.int64),
        **{name: np.zeros((parts, devices), np.int64) for name in ARRAYS if name.endswith("_MD")},
        count_XP=np.zeros((places, slots), np.int32), crc_XP=np.zeros((places, slots), np.int64),
        began_XP=np.zeros((places, slots), np.int64), copies_XDD=np.zeros((places, devices, devices), np.int32),
        node_copies_XDN=np.zeros((places, devices, nodes), np.int32), awaited_XD=np.zeros((places, devices), np.int32),
        results_XD=np.zeros((places, devices), np.int32), parts_XDN=np.zeros((places, devices, nodes), np.int32),
        routed_TLK=np.zeros((1, layers, k), np.int32), workers_D=np.zeros(devices, WORKER), ports=np.zeros(ports, PORT),
        # A device has at most a dense block, its slots and shared experts in each place, and a part's last dense block.
        work_DW=np.zeros((devices, parts * (3 * layers + 1)), WORK), events_A=np.zeros(1, EVENT),
        due_A=np.zeros(1, EVENT), messages_A=np.zeros(FIRST_RECORDS, MESSAGE),
        batches_A=np.zeros(FIRST_RECORDS, LINKED_BATCH), curve_LB=curve_LB,
        cost_CN=np.full((int(curve_LB.max()) + 1, FIRST_TOKENS), -1, np.int64), crc_table=crc_tables(),
    )  # fmt: skip
    return cluster


def arrays_of(workload: Workload) -> dict[str, np.ndarray]:
    """Return the arrays that a run takes from its workload."""
    return {
        "experts_TLK": writable(workload.experts_TLK, np.int16), "home_T": writable(workload.home_T, np.int32),
        "rows_P": writable(workload.first_row_P, np.int64), "tokens_P": writable(workload.tokens_P, np.int64),
        "offset_P": writable(workload.token_offset_P, np.int64), "start_P": np.full(workload.passes, -1),
    }  # fmt: skip


def cluster_fields(workload: Workload, config: RunConfig, slots: int) -> dict[str, float]:
    """Return what the record of a run says before it begins."""
    asked, devices = config.cluster, config.devices
    in_node = devices // asked.nodes
    return {
        "devices": devices, "nodes": asked.nodes, "in_node": in_node, "nics": asked.nics or in_node,
        "micro_batches": asked.micro_batches, "layers": workload.layers, "slots": slots, "per_device": slots // devices,
        "k": workload.experts_TLK.shape[2], "dense": config.dense, "relays": asked.mode == "hierarchical",
        "per_selection": asked.unit == "selection", "nearest": asked.split == "nearest", "shared": asked.shared_experts,
        "dispatch_bytes": asked.dispatch_bytes, "combine_bytes": asked.combine_bytes,
        "inside_ns": asked.inside_latency_ns, "network_ns": asked.network_latency_ns,
        "inside_per_s": asked.inside_bytes_per_s, "network_per_s": asked.network_bytes_per_s, "given_ns": -1,
    }  # fmt: skip


def slots_of_experts(expert_LP: np.ndarray, experts: int) -> np.ndarray:
    """Return slots_LER int32: the slots of every expert, ascending, -1 behind the last."""
    layer_S, slot_S = np.nonzero(expert_LP >= 0)
    expert_S = expert_LP[layer_S, slot_S]
    order = np.lexsort((slot_S, expert_S, layer_S))
    key_S = (layer_S * experts + expert_S)[order]
    count_K = np.bincount(key_S, minlength=len(expert_LP) * experts)
    within_S = np.arange(len(key_S)) - (np.cumsum(count_K) - count_K)[key_S]
    slots_KR = np.full((len(count_K), max(1, count_K.max())), -1, np.int32)
    slots_KR[key_S, within_S] = slot_S[order]
    return slots_KR.reshape(len(expert_LP), experts, -1)
