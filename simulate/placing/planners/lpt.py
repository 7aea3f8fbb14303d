"""Planner `lpt`: longest processing time first (Graham 1969), with as many slots on every device as there are."""

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.slot_filling import filled_slots, least_loaded


def plan(known: LoadProfile, shape: ClusterShape) -> np.ndarray:
    """Return expert_LP: heaviest experts first, each on the least loaded device that has a free slot."""
    return filled_slots(least_loaded(known.load_LE, shape.devices, shape.slots_per_device).device_LX, shape)
