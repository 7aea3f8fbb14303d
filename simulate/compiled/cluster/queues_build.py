"""Makes the arrays of a run of queues over linked devices: those of queues, and those of ports and parts of passes."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.compiled.cluster.cluster_build import FIRST_RECORDS, cluster_fields, slots_of_experts
from moe_replay.simulate.compiled.cluster.cluster_layout import ARRAYS, CLUSTER, EVENT, MESSAGE, PART, PORT
from moe_replay.simulate.compiled.pointers import Pointed
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload


def new_parts(workload: Workload, config: RunConfig, slots_LP: np.ndarray, nodes: int) -> Pointed:
    """Return the cluster of a run that has not begun, in which `nodes` members find room.

    `slots_LP` as `simulate.policies.cluster.slot_table.expert_slots` makes it.
    """
    cluster = Pointed(CLUSTER, ARRAYS, **cluster_fields(workload, config, slots_LP.shape[1]), due=-1)
    devices, ports = config.devices, config.devices + config.cluster.nodes * int(cluster.nics)
    parts, first_part_P, part_N, token_N = parts_of(workload)
    cluster.put(
        slots_LER=slots_of_experts(slots_LP, workload.experts),
        turns_VP=np.zeros((3 * workload.layers, slots_LP.shape[1]), np.int64), marked_D=np.zeros(devices, np.int64),
        parts_R=parts, first_part_P=first_part_P, part_N=part_N, token_N=token_N, ports=empty_ports(ports),
        entered_A=np.zeros(nodes, np.int64), queue_A=np.zeros(nodes, np.int32), first_D=np.zeros(devices, np.int64),
        last_D=np.zeros(devices, np.int64), copies_D=np.zeros(devices, np.int32),
        messages_A=np.zeros(FIRST_RECORDS, MESSAGE), carried_A=np.zeros(FIRST_RECORDS, np.int32),
        events_A=np.zeros(2 * ports + FIRST_RECORDS, EVENT), due_A=np.zeros(2 * ports + FIRST_RECORDS, EVENT),
    )  # fmt: skip
    return cluster


def empty_ports(count: int) -> np.ndarray:
    """Return the records of ports at which nothing waits."""
    ports = np.zeros(count, PORT)
    ports["first_out"] = ports["first_in"] = -1
    return ports


def parts_of(workload: Workload) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return (the parts of all passes, the first of every pass and behind the last, part_N, token_N)."""
    home_N = workload.home_T[workload.row_N]
    key_N = workload.pass_N * (int(home_N.max()) + 1) + home_N
    token_N = np.argsort(key_N, kind="stable")  # a part's tokens stay in row order
    key_R, first_R, part_N, tokens_R = np.unique(key_N, return_index=True, return_inverse=True, return_counts=True)
    pass_R = workload.pass_N[first_R]
    parts = np.zeros(len(key_R), PART)
    parts["tokens"], parts["home"], parts["first"] = tokens_R, home_N[first_R], np.cumsum(tokens_R) - tokens_R
    first_part_P = np.searchsorted(pass_R, np.arange(workload.passes + 1))
    return parts, first_part_P.astype(np.int64), part_N.ravel().astype(np.int32), token_N.astype(np.int32)
