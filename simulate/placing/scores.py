"""What a placement is worth: the load of every device, and how far the heaviest is above the mean.

Letters: B batches, L layers, E experts, P slots, D devices.
"""

from __future__ import annotations

import numpy as np

from moe_replay.traces.placements.even_split import EMPTY


def useless_replicas(expert_LP: np.ndarray, devices: int) -> np.ndarray:
    """Return [L], how many slots hold an expert that a slot of the same device holds already: they balance nothing."""
    held_LDX = np.sort(expert_LP.reshape(len(expert_LP), devices, -1), axis=2)
    return ((held_LDX[:, :, 1:] == held_LDX[:, :, :-1]) & (held_LDX[:, :, 1:] != EMPTY)).sum((1, 2))


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
    """Return [L]: Max Load of Huang et al., the largest share of any device in any batch; NaN without selections."""
    share_BL = largest_shares(load_BLD)
    return np.where(np.isnan(share_BL).all(0), np.nan, np.nan_to_num(share_BL).max(0, initial=0))


def average_max_load(load_BLD: np.ndarray) -> np.ndarray:
    """Return [L]: Avg Max Load of Huang et al., the mean over batches of the largest share of any device."""
    share_BL = largest_shares(load_BLD)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(share_BL).sum(0) / (~np.isnan(share_BL)).sum(0)
