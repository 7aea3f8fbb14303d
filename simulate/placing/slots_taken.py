"""Which slot every selection goes to under a rule that a run could follow: round robin or nearest.

Letters: T tokens, K selections of a token, E experts, P slots, D devices.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape

NOWHERE = -1  # an empty place of a token


def slots_taken(
    experts_TK: np.ndarray,
    batch_T: np.ndarray,
    home_T: np.ndarray,
    expert_P: np.ndarray,
    shape: ClusterShape,
    rule: str,
) -> np.ndarray:
    """Return the slot of every selection of a layer [T, K], -1 where there is none.

    The n-th selection of a batch that falls to a set of replicas takes the n-th slot of the set, cyclically; rows in
    order, a row's ranks in order. The set is all replicas (`round-robin`); or (`nearest`) those on the token's home
    device, else those in its node, else all.
    """
    set_DE, slots_of = replica_sets(expert_P, int(max(experts_TK.max(), expert_P.max())) + 1, shape, rule)
    token, rank = np.nonzero(experts_TK >= 0)
    set_X = set_DE[home_T[token], experts_TK[token, rank]]
    key_X = batch_T[token] * len(slots_of) + set_X
    size_S = np.array([len(each) for each in slots_of])
    slot_SX = np.full((len(slots_of), size_S.max()), NOWHERE)
    for at, each in enumerate(slots_of):
        slot_SX[at, : len(each)] = each
    slot_TK = np.full(experts_TK.shape, NOWHERE)
    slot_TK[token, rank] = slot_SX[set_X, occurrences(key_X) % size_S[set_X]]
    return slot_TK


def replica_sets(
    expert_P: np.ndarray, experts: int, shape: ClusterShape, rule: str
) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Return the number of the set of slots that a home's selections of an expert fall to [D, E], and the sets."""
    device_P = np.arange(shape.slots) // shape.slots_per_device
    node_P = device_P // shape.devices_per_node
    numbers: dict[tuple[int, ...], int] = {}
    set_DE = np.empty((shape.devices, experts), np.int64)
    for expert in range(experts):
        all_X = np.flatnonzero(expert_P == expert)
        for home in range(shape.devices):
            near = [all_X[device_P[all_X] == home], all_X[node_P[all_X] == home // shape.devices_per_node]]
            own = next((each for each in near if len(each)), all_X) if rule == "nearest" else all_X
            set_DE[home, expert] = numbers.setdefault(tuple(own.tolist()), len(numbers))
    return set_DE, list(numbers)


def occurrences(key_X: np.ndarray) -> np.ndarray:
    """Return how often every key came before, in order."""
    order_X = np.argsort(key_X, kind="stable")
    sorted_X = key_X[order_X]
    first_X = np.flatnonzero(np.diff(sorted_X, prepend=sorted_X[:1] - 1))
    count_X = np.empty(len(key_X), np.int64)
    count_X[order_X] = np.arange(len(key_X)) - np.repeat(first_X, np.diff(first_X, append=len(key_X)))
    return count_X
