"""Filling slots: experts one after another on the least loaded device with a free slot, for all layers at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.traces.placements.even_split import EMPTY


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


@dataclass(frozen=True)
class Packing:
    """Which device every item of every layer is on [L, X], and its place there in the order of packing."""

    device_LX: np.ndarray
    place_LX: np.ndarray


def least_loaded(load_LX: np.ndarray, devices: int, most: int, former_LX: np.ndarray | None = None) -> Packing:
    """Return a packing: heaviest first, each on the least loaded of the devices that hold fewer than `most`.

    Of equal loads the lower number goes first. Of equally loaded devices the item's `former_LX` device takes it where
    it is among them, else the lowest.
    """
    layers, items = load_LX.shape
    order_LX = np.argsort(-load_LX, axis=1, kind="stable")
    sorted_LX = np.take_along_axis(load_LX, order_LX, 1)
    before_LX = None if former_LX is None else np.take_along_axis(former_LX, order_LX, 1)
    fullness_LD, held_LD = np.zeros((layers, devices), load_LX.dtype), np.zeros((layers, devices), np.int64)
    shut_LD = np.zeros((layers, devices), load_LX.dtype if load_LX.dtype.kind == "f" else float)  # infinite where full
    device_LX, place_LX = np.empty((layers, items), np.int64), np.empty((layers, items), np.int64)
    layer_L = np.arange(layers)
    for at in range(items):
        open_LD = fullness_LD + shut_LD
        device_L = open_LD.argmin(1)
        if before_LX is not None:
            stays_L = open_LD[layer_L, before_LX[:, at]] == open_LD[layer_L, device_L]
            device_L = np.where(stays_L, before_LX[:, at], device_L)
        device_LX[layer_L, order_LX[:, at]] = device_L
        place_LX[layer_L, order_LX[:, at]] = held_LD[layer_L, device_L]
        fullness_LD[layer_L, device_L] += sorted_LX[:, at]
        held_LD[layer_L, device_L] += 1
        shut_LD[layer_L, device_L] = np.where(held_LD[layer_L, device_L] == most, np.inf, 0)
    return Packing(device_LX, place_LX)
