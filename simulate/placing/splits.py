"""How selections of an expert are split over its replicas: scores (`even`, `best`) and rules that a run could follow.

    even         every replica takes the same part of a batch's selections
    best         the heaviest device of a batch gets as little as can be, by linear programming: no rule is better
    round-robin  the n-th selection of an expert in a batch goes to its n-th slot, cyclically
    nearest      the same among the replicas on the token's home device, else in its home's node, else among all

Letters: B batches, L layers, E experts, P slots, D devices, T tokens, K selections of a token.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.slots_taken import occurrences
from moe_replay.traces.placements.even_split import EMPTY, even_loads, replicas_LE

SPLITS = ("even", "best", "round-robin", "nearest")


def best_loads(load_BLE: np.ndarray, expert_LP: np.ndarray, shape: ClusterShape) -> np.ndarray:
    """Return each device's load [B, L, D] under the best split of every batch."""
    load_BLD = even_loads(load_BLE, expert_LP, shape.devices)
    for layer, expert_P in enumerate(expert_LP):
        if (replicas_LE(expert_P[None], load_BLE.shape[2]) > 1).any():
            for batch, load_E in enumerate(load_BLE[:, layer]):
                if load_E.any():
                    load_BLD[batch, layer] = least_heaviest(load_E, expert_P, shape)
    return load_BLD


def least_heaviest(load_E: np.ndarray, expert_P: np.ndarray, shape: ClusterShape) -> np.ndarray:
    """Return the devices' loads [D] of a layer when replicas share so that the heaviest device has least.

    Loads x_P of the slots and the heaviest load t: minimise t where an expert's slots have its load together, and no
    device more than t.
    """
    from scipy.optimize import linprog  # late: commands that list splits need no scipy
    from scipy.sparse import csr_array

    slot_X = np.flatnonzero(expert_P != EMPTY)
    device_X, at_X, ones_X = slot_X // shape.slots_per_device, np.arange(len(slot_X)), np.ones(len(slot_X))
    scale = load_E.sum() / shape.devices  # loads near 1: the solver's tolerances are absolute
    on_device = np.zeros((shape.devices, len(slot_X) + 1))
    on_device[device_X, at_X], on_device[:, -1] = 1, -1
    of_expert = csr_array((ones_X, (expert_P[slot_X], at_X)), (len(load_E), len(slot_X) + 1))
    found = linprog(
        np.append(np.zeros(len(slot_X)), 1.0), A_ub=csr_array(on_device), b_ub=np.zeros(shape.devices),
        A_eq=of_expert, b_eq=load_E / scale, method="highs",
    )  # fmt: skip
    if found.status != 0:
        raise RuntimeError(f"the best split was not found: {found.message}")
    return np.bincount(device_X, found.x[:-1], shape.devices) * scale


def round_robin_loads(load_BLE: np.ndarray, expert_LP: np.ndarray, devices: int) -> np.ndarray:
    """Return each device's load [B, L, D] where the n-th selection of an expert in a batch goes to its n-th slot."""
    count_LE = replicas_LE(expert_LP, load_BLE.shape[2])
    load_BLP = np.empty((len(load_BLE), *expert_LP.shape), np.int64)
    for layer, row in enumerate(expert_LP.astype(np.int64)):
        turn_P = occurrences(row)  # the first slot of an expert takes its first selection
        count_P = np.maximum(count_LE[layer, row], 1)
        load_BLP[:, layer] = np.where(row == EMPTY, 0, (load_BLE[:, layer, row] - turn_P + count_P - 1) // count_P)
    return load_BLP.reshape(len(load_BLE), len(expert_LP), devices, -1).sum(3)
