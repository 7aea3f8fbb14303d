"""Planner `greedy`: Huang et al. (arXiv 2303.06182), by the mean share of a batch's tokens that an expert gets."""

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.slot_filling import filled_slots, least_loaded


def plan(known: LoadProfile, shape: ClusterShape) -> np.ndarray:
    """Return expert_LP: largest mean shares first, each on the least loaded device that has a free slot.

    Where batches have equally many selections this is `lpt` but for ties, which rounding decides here.
    """
    mean_LE = known.share_BLE.mean(0)
    return filled_slots(least_loaded(mean_LE, shape.devices, shape.slots_per_device).device_LX, shape)
