"""Planner `eplb`: DeepSeek's Expert Parallelism Load Balancer (deepseek-ai/EPLB), hierarchical or global.

Groups of experts are packed into nodes, experts replicated within their node, replicas packed onto its devices. Loads
are single precision, as there. Its sort is not stable, so which of two equally loaded replicas goes where is
undetermined there; here it is stable.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.slot_filling import Packing, least_loaded
from moe_replay.traces.errors import InputError


def plan(known: LoadProfile, shape: ClusterShape, groups: float = 1) -> np.ndarray:
    """Return expert_LP: every slot is filled, with replicas where there are more slots than experts.

    `groups` is the number of the model's expert groups, neighbours in number; a group stays within a node. Where they
    cannot be shared out equally to the nodes the policy is global: all devices as one node. An expert may end up twice
    on a device, which balances nothing (`useless_replicas` counts it). InputError for groups of unequal size.
    """
    if groups != int(groups) or groups < 1 or known.experts % int(groups):
        raise InputError(f"eplb: {groups:g} groups of {known.experts} experts, allowed: groups of equal size")
    groups, nodes = int(groups), shape.nodes
    if groups % nodes:
        groups, nodes = 1, 1
    load_LE = known.load_LE.astype(np.float32)
    expert_LM = in_nodes(load_LE, groups, nodes)  # the experts in the order of nodes
    layers, experts = load_LE.shape
    of_node_XM = np.take_along_axis(load_LE, expert_LM, 1).reshape(layers * nodes, experts // nodes)
    slot_XP = in_devices(of_node_XM, shape.slots // nodes, shape.devices // nodes)
    first_XP = np.tile(np.arange(nodes) * (experts // nodes), layers)[:, None]
    return np.take_along_axis(expert_LM, (slot_XP + first_XP).reshape(layers, shape.slots), 1).astype(np.int16)


def in_nodes(load_LE: np.ndarray, groups: int, nodes: int) -> np.ndarray:
    """Return [L, E]: the experts, node by node, of groups packed into nodes by their loads."""
    layers, experts = load_LE.shape
    size = experts // groups
    packing = packed(load_LE.reshape(layers, groups, size).sum(2), nodes)
    place_LG = packing.device_LX * (groups // nodes) + packing.place_LX
    group_LG = np.argsort(place_LG, axis=1)
    return (group_LG[:, :, None] * size + np.arange(size)).reshape(layers, experts)


def in_devices(load_XE: np.ndarray, slots: int, devices: int) -> np.ndarray:
    """Return [X, slots]: the expert in every slot, of experts replicated into slots and packed onto devices."""
    expert_XR, count_XE = replicated(load_XE, slots)
    share_XE = load_XE / count_XE.astype(np.float32)
    packing = packed(np.take_along_axis(share_XE, expert_XR, 1), devices)
    slot_XR = packing.device_LX * (slots // devices) + packing.place_LX
    expert_XP = np.empty_like(expert_XR)
    np.put_along_axis(expert_XP, slot_XR, expert_XR, 1)
    return expert_XP


def packed(load_LX: np.ndarray, packs: int) -> Packing:
    """Return items in packs of equal size; one item a pack keeps the items' order."""
    if load_LX.shape[1] == packs:
        return Packing(np.tile(np.arange(packs), (len(load_LX), 1)), np.zeros(load_LX.shape, np.int64))
    return least_loaded(load_LX, packs, load_LX.shape[1] // packs)


def replicated(load_XE: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the expert of every replica [X, slots] and the replicas of every expert [X, E].

    First all experts once; then a replica at a time for the expert with the largest load per replica.
    """
    rows, experts = load_XE.shape
    expert_XR = np.tile(np.arange(slots), (rows, 1))
    count_XE, row_X = np.ones((rows, experts), np.int64), np.arange(rows)
    for at in range(experts, slots):
        most_X = (load_XE / count_XE.astype(np.float32)).argmax(1)
        expert_XR[:, at] = most_X
        count_XE[row_X, most_X] += 1
    return expert_XR, count_XE
