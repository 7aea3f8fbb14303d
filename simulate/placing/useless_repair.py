"""Repairs placements in which a device holds an expert twice: what is there is packed anew, each device once."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.scores import useless_replicas
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.balanced_placement import packed, replicas


def repaired(expert_LP: np.ndarray, load_LE: np.ndarray, shape: ClusterShape) -> np.ndarray:
    """Return the placement with layers that hold a useless replica packed anew, all other layers as they are.

    Where no expert is in two nodes each node keeps its experts, and only those with useless replicas are packed anew.
    An expert gets at most as many replicas as there are devices. InputError where a node has more slots than its
    experts can fill so.
    """
    made_LP = expert_LP.copy()
    for layer in np.flatnonzero(useless_replicas(expert_LP, shape.devices)):
        rows = made_LP[layer].reshape(shape.nodes, -1)
        apart = sum(len(np.unique(row)) for row in rows) == len(np.unique(rows))
        for row in rows if apart else made_LP[layer][None]:
            devices = shape.devices_per_node if apart else shape.devices
            if useless_replicas(row[None], devices)[0]:
                row[:] = packed_anew(row, load_LE[layer], devices)
    return made_LP


def packed_anew(expert_P: np.ndarray, load_E: np.ndarray, devices: int) -> np.ndarray:
    """Return the same slots with the same experts, replicated and packed so that no device holds one twice."""
    expert_X = np.unique(expert_P)
    if len(expert_P) > len(expert_X) * devices:
        raise InputError(
            f"{len(expert_P)} slots for {len(expert_X)} experts on {devices} devices of a node, allowed at most "
            f"{len(expert_X) * devices} without an expert twice on a device"
        )
    load_X = load_E[expert_X].astype(float)
    return expert_X[packed(load_X, replicas(load_X, devices, len(expert_P)), devices, len(expert_P))]
