"""Planner `balanced`: replicas for the experts with most load, packed with swaps, never two on one device.

It is what `python -m traces export --devices` makes (`traces.placements.balanced_placement`).
"""

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.traces.placements.balanced_placement import packed, replicas


def plan(known: LoadProfile, shape: ClusterShape) -> np.ndarray:
    """Return expert_LP: every slot is filled, with replicas where there are more slots than experts."""
    devices, slots = shape.devices, shape.slots
    return np.stack([
        packed(load_E, replicas(load_E, devices, slots), devices, slots) for load_E in known.load_LE.astype(float)
    ])  # fmt: skip
