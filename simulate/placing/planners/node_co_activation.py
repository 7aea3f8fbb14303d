"""Planner `node-co-activation`: experts that tokens select together share a node, and are balanced inside it."""

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planners.device_co_activation import grouped_devices
from moe_replay.simulate.placing.slot_filling import filled_slots, least_loaded

SLACK = 0.02


def plan(known: LoadProfile, shape: ClusterShape, slack: float = SLACK) -> np.ndarray:
    """Return expert_LP: nodes by co-activation first, then longest first onto the devices of each node.

    The heaviest node may have up to 1 + `slack` times the load that it has when nodes are filled by `lpt`. InputError
    for counts without tokens.
    """
    inside, most = shape.devices_per_node, shape.slots_per_device * shape.devices_per_node
    node_LE = grouped_devices(known, shape.nodes, most, slack)
    device_LE = np.empty_like(node_LE)
    for layer, node_E in enumerate(node_LE):
        for node in range(shape.nodes):
            own_X = np.flatnonzero(node_E == node)
            packing = least_loaded(known.load_LE[layer, own_X][None], inside, shape.slots_per_device)
            device_LE[layer, own_X] = node * inside + packing.device_LX[0]
    return filled_slots(device_LE, shape)
