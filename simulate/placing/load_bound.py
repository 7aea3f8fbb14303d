"""The load that the heaviest device has at least, whatever the placement without replicas."""

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape


def load_bound(load_LE: np.ndarray, shape: ClusterShape) -> np.ndarray:
    """Return [L]: no placement of single copies leaves the heaviest device with less.

    It has the mean at least; the heaviest expert with as many of the lightest as must be beside it, since the other
    devices have no more slots; and two of the D + 1 heaviest experts, of which some device holds two.
    """
    sorted_LE = -np.sort(-load_LE, axis=1)
    experts = load_LE.shape[1]
    beside = max(0, experts - shape.slots_per_device * (shape.devices - 1) - 1)
    bounds = [load_LE.sum(1) / shape.devices, sorted_LE[:, 0] + sorted_LE[:, experts - beside :].sum(1)]
    if experts > shape.devices:
        bounds.append(sorted_LE[:, shape.devices - 1] + sorted_LE[:, shape.devices])
    return np.max(bounds, axis=0)
