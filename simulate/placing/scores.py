"""What a placement is worth: the load of every device, and how far the heaviest is above the mean.

Letters: B batches, L layers, E experts, P slots, D devices.
"""

from __future__ import annotations

import numpy as np

from moe_replay.traces.placements.expert_placement import EMPTY


def replicas_LE(expert_LP: np.ndarray, experts: int) -> np.ndarray:
    """Return how many slots every expert of every layer has."""
    return np.stack([np.bincount(row + 1, minlength=experts + 1)[1:] for row in expert_LP.astype(np.int64)])


def useless_replicas(expert_LP: np.ndarray, devices: int) -> np.ndarray:
    """Return [L], how many slots hold an expert that a slot of the same device holds already: they balance nothing."""
    held_LDX = np.sort(expert_LP.reshape(len(expert_LP), devices, -1), axis=2)
    return ((held_LDX[:, :, 1:] == held_LDX[:, :, :-1]) & (held_LDX[:, :, 1:] != EMPTY)).sum((1, 2))


def even_loads(load_BLE: np.ndarray, expert_LP: np.ndarray, devices: int) -> np.ndarray:
    """Return each device's load [B, L, D] where an expert's replicas share its load equally."""
    experts = load_BLE.shape[2]
    share_LE = 1 / replicas_LE(expert_LP, experts)
    load_BLP = np.empty((len(load_BLE), *expert_LP.shape))
    for layer, row in enumerate(expert_LP.astype(np.int64)):
        load_BLP[:, layer] = np.where(row == EMPTY, 0, load_BLE[:, layer, row] * share_LE[layer, row])
    return load_BLP.reshape(len(load_BLE), len(expert_LP), devices, -1).sum(3)


def max_over_mean(load_BLD: np.ndarray) -> np.ndarray:
    """Return [L]: the heaviest device's load over the mean, of all batches together; NaN without selections."""
    load_LD = load_BLD.sum(0)
    with np.errstate(invalid="ignore"):
        return load_LD.max(1) / load_LD.mean(1)


def largest_shares(load_BLD: np.ndarray) -> np.ndarray:
    """Return [B, L]: the largest share of a batch's selections that one device gets; NaN without selections."""
    with np.errstate(invalid="ignore"):
        return load_BLD.max(2) / load_BLD.sum(2)


def max_load(load_BLD: np.ndarray) -> np.ndarray:
    """Return [L]: Max Load of Huang et al., the largest share of any device in any batch."""
    return np.nanmax(largest_shares(load_BLD), 0)


def average_max_load(load_BLD: np.ndarray) -> np.ndarray:
    """Return [L]: Avg Max Load of Huang et al., the mean over batches of the largest share of any device."""
    return np.nanmean(largest_shares(load_BLD), 0)
