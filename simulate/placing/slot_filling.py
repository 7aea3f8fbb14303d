"""Filling slots: experts one after another on the least loaded device with a free slot, for all layers at once."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.traces.placements.expert_placement import EMPTY


def filled_slots(device_LE: np.ndarray, shape: ClusterShape) -> np.ndarray:
    """Return expert_LP int16 of one device for each expert; a device's experts ascend, its last slots may be empty."""
    layers, experts = device_LE.shape
    order_LE = np.argsort(device_LE, axis=1, kind="stable")
    sorted_LE = np.take_along_axis(device_LE, order_LE, 1)
    # Of the experts that are sorted by device, the first of a device is where its device number first appears.
    first_LD = np.stack([np.searchsorted(row, np.arange(shape.devices)) for row in sorted_LE])
    place_LE = np.arange(experts) - np.take_along_axis(first_LD, sorted_LE, 1)
    expert_LP = np.full((layers, shape.slots), EMPTY, np.int16)
    np.put_along_axis(expert_LP, sorted_LE * shape.slots_per_device + place_LE, order_LE.astype(np.int16), 1)
    return expert_LP


def least_loaded(load_LX: np.ndarray, devices: int, most: int) -> np.ndarray:
    """Return device_LX: heaviest first, each on the least loaded of the devices that hold fewer than `most`.

    Of equal loads the lower number goes first, of equally loaded devices the lower number takes it.
    """
    layers, items = load_LX.shape
    order_LX = np.argsort(-load_LX, axis=1, kind="stable")
    sorted_LX = np.take_along_axis(load_LX, order_LX, 1)
    fullness_LD, held_LD = np.zeros((layers, devices), load_LX.dtype), np.zeros((layers, devices), np.int64)
    shut_LD = np.zeros((layers, devices))  # infinite where a device is full
    chosen_LX, layer_L = np.empty((layers, items), np.int64), np.arange(layers)
    for place in range(items):
        device_L = (fullness_LD + shut_LD).argmin(1)
        chosen_LX[:, place] = device_L
        fullness_LD[layer_L, device_L] += sorted_LX[:, place]
        held_LD[layer_L, device_L] += 1
        shut_LD[layer_L, device_L] = np.where(held_LD[layer_L, device_L] == most, np.inf, 0)
    device_LX = np.empty_like(chosen_LX)
    np.put_along_axis(device_LX, order_LX, chosen_LX, 1)
    return device_LX
