"""All scores of one placement on one part of what was recorded, under one split.

Letters: B batches, L layers, E experts, P slots, D devices, T tokens, K selections of a token.
"""

from __future__ import annotations

from dataclasses import asdict

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.recorded_batches import Batches
from moe_replay.simulate.placing.scores import average_max_load, max_load, max_over_mean
from moe_replay.simulate.placing.slots_taken import slots_taken
from moe_replay.simulate.placing.splits import SPLITS, best_loads, round_robin_loads
from moe_replay.simulate.placing.traffic import Traffic, traffic
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.placements.even_split import even_loads, replicas_LE

RULES = ("round-robin", "nearest")  # splits that say where each selection goes
OF_TRAFFIC = tuple(Traffic.__dataclass_fields__)


def scores(batches: Batches, expert_LP: np.ndarray, shape: ClusterShape, split: str) -> dict[str, float | None]:
    """Return the scores, means over layers but for the worst layer's; None for what cannot be said.

    Shares of the largest device are over whole batches. What is sent can be said of tokens where the split says which
    replica a selection goes to, or where there are none.
    """
    check_split(batches, split)
    slot_LTK = token_slots(batches, expert_LP, shape, split)
    total_LD, load_BLD = device_loads(batches, expert_LP, shape, split, slot_LTK)
    ratio_L, most_L, average_L = max_over_mean(total_LD[None]), max_load(load_BLD), average_max_load(load_BLD)
    sent = dict.fromkeys(OF_TRAFFIC) if slot_LTK is None else mean_traffic(batches, slot_LTK, shape)
    return {
        "device_max_over_mean": over_layers(ratio_L), "device_max_over_mean_worst": worst(ratio_L),
        "max_load": over_layers(most_L), "max_load_worst": worst(most_L),
        "avg_max_load": over_layers(average_L), **sent,
    }  # fmt: skip


def check_split(batches: Batches, split: str) -> None:
    """Refuse an unknown split, and one that asks for the homes of tokens where there are none."""
    if split not in SPLITS:
        raise unknown_name("split", split, SPLITS)
    if split == "nearest" and batches.batch_T is None:
        raise InputError("split 'nearest': counts tell no homes of tokens, allowed: even, best, round-robin")


def token_slots(batches: Batches, expert_LP: np.ndarray, shape: ClusterShape, split: str) -> list[np.ndarray] | None:
    """Return the slot of every selection, a layer at a time; None of counts, and where the split does not say."""
    replicated = (replicas_LE(expert_LP, batches.profile.experts) > 1).any()
    if batches.batch_T is None or (replicated and split not in RULES):
        return None
    rule, home_T = split if split in RULES else "round-robin", batches.homes(shape.devices)
    return [
        slots_taken(batches.profile.tokens(layer), batches.batch_T, home_T, expert_P, shape, rule)
        for layer, expert_P in enumerate(expert_LP)
    ]


def device_loads(
    batches: Batches, expert_LP: np.ndarray, shape: ClusterShape, split: str, slot_LTK: list[np.ndarray] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return each device's load in all batches together [L, D], and in every whole batch [B, L, D].

    The best split is sought for each by itself: that of all batches together is no sum of theirs.
    """
    load_BLE, whole_B = batches.profile.load_BLE, batches.whole_B
    if split == "best":
        together = best_loads(batches.profile.load_LE[None], expert_LP, shape)[0]
        return together, best_loads(load_BLE[whole_B], expert_LP, shape)
    if split == "even":
        load_BLD = even_loads(load_BLE, expert_LP, shape.devices)
    elif split == "round-robin":
        load_BLD = round_robin_loads(load_BLE, expert_LP, shape.devices)
    else:
        load_BLD = np.stack([loads_of_slots(slot_TK, batches, shape) for slot_TK in slot_LTK], 1)
    return load_BLD.sum(0), load_BLD[whole_B]


def loads_of_slots(slot_TK: np.ndarray, batches: Batches, shape: ClusterShape) -> np.ndarray:
    """Return each device's selections in every batch [B, D]."""
    token, _ = filled = np.nonzero(slot_TK >= 0)
    place = batches.batch_T[token] * shape.devices + slot_TK[filled] // shape.slots_per_device
    size = len(batches.whole_B) * shape.devices
    return np.bincount(place, minlength=size).reshape(-1, shape.devices)


def mean_traffic(batches: Batches, slot_LTK: list[np.ndarray], shape: ClusterShape) -> dict[str, float | None]:
    """Return what is sent, means over layers; tokens without a route in a layer are left out there."""
    home_T = batches.homes(shape.devices)
    found = []
    for layer, slot_TK in enumerate(slot_LTK):
        device_TK = np.where(slot_TK >= 0, slot_TK // shape.slots_per_device, -1)
        if tokens := int((batches.profile.tokens(layer)[:, 0] != -1).sum()):
            found.append(asdict(traffic(device_TK, home_T, shape, tokens)))
    return {name: float(np.mean([each[name] for each in found])) if found else None for name in OF_TRAFFIC}


def over_layers(value_L: np.ndarray) -> float | None:
    """Return the mean over the layers that have a value."""
    known_X = value_L[~np.isnan(value_L)]
    return float(known_X.mean()) if len(known_X) else None


def worst(value_L: np.ndarray) -> float | None:
    """Return the largest of the layers that have a value."""
    known_X = value_L[~np.isnan(value_L)]
    return float(known_X.max()) if len(known_X) else None
