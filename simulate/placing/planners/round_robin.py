"""Planner `round-robin`: experts dealt out to the devices in turn, whatever their loads."""

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.slot_filling import filled_slots


def plan(known: LoadProfile, shape: ClusterShape) -> np.ndarray:
    """Return expert_LP: expert e of every layer on device e % devices, ascending in its slots."""
    device_E = np.arange(known.experts) % shape.devices
    return filled_slots(np.tile(device_E, (known.layers, 1)), shape)
