"""The load of every device where the replicas of an expert share its load equally.

Letters: B batches, L layers, E experts, P slots, D devices.
"""

import numpy as np

EMPTY = -1  # what an empty slot holds


def replicas_LE(expert_LP: np.ndarray, experts: int) -> np.ndarray:
    """Return how many slots every expert of every layer has."""
    return np.stack([np.bincount(row + 1, minlength=experts + 1)[1:] for row in expert_LP.astype(np.int64)])


def even_loads(load_BLE: np.ndarray, expert_LP: np.ndarray, devices: int) -> np.ndarray:
    """Return each device's load [B, L, D], every expert's load in equal parts on its replicas."""
    count_LE = replicas_LE(expert_LP, load_BLE.shape[2])
    load_BLP = np.empty((len(load_BLE), *expert_LP.shape))
    for layer, row in enumerate(expert_LP.astype(np.int64)):
        load_BLP[:, layer] = np.where(row == EMPTY, 0, load_BLE[:, layer, row] / count_LE[layer, row])
    return load_BLP.reshape(len(load_BLE), len(expert_LP), devices, -1).sum(3)
