"""What moves when one placement follows another: copies, the fullest port, and devices renamed so that least moves.

A copy is an expert on a device that did not hold it before; a second replica on one device needs no copy of its own.
Letters: L layers, E experts, P slots, D devices, N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.traces.placements.expert_placement import EMPTY


@dataclass(frozen=True)
class Migration:
    """Copies [L], and how many of them the fullest port carries [L]: in or out of any one device.

    A copied expert comes in equal parts from the devices that held it. `most_L` times an expert's bytes over a port's
    bandwidth is the least time in which all copies can be made.
    """

    copies_L: np.ndarray
    most_L: np.ndarray


def held_counts(expert_LP: np.ndarray, devices: int, experts: int) -> np.ndarray:
    """Return how many slots of every device hold each expert, int64 [L, D, E]."""
    layers, slots = expert_LP.shape
    group_LP = np.arange(layers * slots).reshape(layers, slots) // (slots // devices)
    expert_LP = np.where(expert_LP == EMPTY, experts, expert_LP)  # the last column takes the empty slots
    count_X = np.bincount((group_LP * (experts + 1) + expert_LP).ravel(), minlength=layers * devices * (experts + 1))
    return count_X.reshape(layers, devices, experts + 1)[:, :, :experts]


def migration(before_LP: np.ndarray, after_LP: np.ndarray, devices: int, experts: int) -> Migration:
    """Return what moves when a placement follows another one."""
    before_LDE = held_counts(before_LP, devices, experts) > 0
    moved_LDE = (held_counts(after_LP, devices, experts) > 0) & ~before_LDE
    sent_LE = moved_LDE.sum(1) / np.maximum(before_LDE.sum(1), 1)
    most_L = np.maximum(moved_LDE.sum(2).max(1), (before_LDE * sent_LE[:, None]).sum(2).max(1))
    return Migration(moved_LDE.sum((1, 2)), most_L)


def renamed(before_LP: np.ndarray, after_LP: np.ndarray, shape: ClusterShape, experts: int) -> np.ndarray:
    """Return `after_LP` with its devices renamed so that the fewest copies follow `before_LP`.

    What a device of the new placement holds goes as a whole to one device. Devices of a node stay together: nodes are
    renamed among nodes, devices inside them. Both are assignment problems, solved exactly.
    """
    before_LDE, after_LDE = (
        (held_counts(expert_LP, shape.devices, experts) > 0).astype(np.int64) for expert_LP in (before_LP, after_LP)
    )
    kept_LDD = np.einsum("lde,lfe->ldf", before_LDE, after_LDE)
    groups_LDX = after_LP.reshape(len(after_LP), shape.devices, -1)
    renamed_LDX = np.empty_like(groups_LDX)
    for layer, kept_DD in enumerate(kept_LDD):
        renamed_LDX[layer] = groups_LDX[layer, best_names(kept_DD, shape)]
    return renamed_LDX.reshape(after_LP.shape)


def best_names(kept_DD: np.ndarray, shape: ClusterShape) -> np.ndarray:
    """Return which new device every old one becomes; `kept_DD` [old, new] says how many experts that keeps."""
    from scipy.optimize import linear_sum_assignment  # late: half a second at the start of every command

    nodes, inside = shape.nodes, shape.devices_per_node
    kept_NINI = kept_DD.reshape(nodes, inside, nodes, inside)
    inner_NNI = np.empty((nodes, nodes, inside), np.int64)
    total_NN = np.empty((nodes, nodes), np.int64)
    for old in range(nodes):
        for new in range(nodes):
            rows, columns = linear_sum_assignment(kept_NINI[old, :, new], maximize=True)
            inner_NNI[old, new] = columns
            total_NN[old, new] = kept_NINI[old, rows, new, columns].sum()
    _, node_N = linear_sum_assignment(total_NN, maximize=True)
    return np.concatenate([new * inside + inner_NNI[old, new] for old, new in enumerate(node_N)])
