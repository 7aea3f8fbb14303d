"""Loads of devices at single points in time, an expert's replicas sharing its load equally.

Letters: S points, L layers, E experts, P slots, D devices.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_bound import load_bound
from moe_replay.simulate.rebalancing.migration import held_counts


def device_loads(load_LE: np.ndarray, expert_LP: np.ndarray, devices: int) -> np.ndarray:
    """Return each device's load [L, D] of one point."""
    held_LDE = held_counts(expert_LP, devices, load_LE.shape[1])
    return np.einsum("lde,le->ld", held_LDE, load_LE / held_LDE.sum(1))


def over_mean(load_XD: np.ndarray) -> np.ndarray:
    """Return the heaviest device's load over the mean, along the last axis; NaN where nothing is selected."""
    total_X = load_XD.sum(-1)
    with np.errstate(invalid="ignore"):
        return load_XD.max(-1) * load_XD.shape[-1] / total_X


def bound(load_SLE: np.ndarray, shape: ClusterShape, redundant: int = 0) -> np.ndarray:
    """Return [S, L], below which max/mean of no placement can be, even of one for that point alone.

    With `redundant` experts the spare slots may hold replicas: then an expert's load can be in as many parts as there
    are spare slots and one, on different devices. Without, `load_bound` says more. NaN where nothing is selected.
    """
    parts = min(shape.devices, 1 + shape.slots - load_SLE.shape[2]) if redundant else 1
    mean_SL = load_SLE.sum(2) / shape.devices
    if parts > 1:
        least_SL = np.maximum(mean_SL, load_SLE.max(2) / parts)
    else:
        least_SL = np.stack([load_bound(load_LE, shape) for load_LE in load_SLE])
    return np.divide(least_SL, mean_SL, out=np.full(mean_SL.shape, np.nan), where=mean_SL > 0)
