"""Planner `smartmoe`: SmartMoE's rule (ATC '23): longest first, on its own device where that ties; adopted for a gain.

The rule is that of its released greedy search, which runs while a model trains.
"""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planners import contiguous
from moe_replay.simulate.placing.slot_filling import filled_slots, least_loaded
from moe_replay.traces.placements.even_split import EMPTY


def plan(known: LoadProfile, shape: ClusterShape, threshold: float = 1.0) -> np.ndarray:
    """Return expert_LP: what the rule makes of a contiguous placement."""
    former_LE = devices_of(contiguous.plan(known, shape), known.experts, shape)
    device_LE, _ = replanned(known.load_LE, former_LE, shape, threshold)
    return filled_slots(device_LE, shape)


def replanned(
    load_LE: np.ndarray, former_LE: np.ndarray, shape: ClusterShape, threshold: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return the devices of all experts [L, E], and which layers adopted a new placement [L].

    The heaviest expert goes first, each to the least loaded device with a free slot, to its former one where that is
    among the least loaded. A layer adopts it if the former heaviest device has more than `threshold` times the load of
    the new one.
    """
    device_LE = least_loaded(load_LE, shape.devices, shape.slots_per_device, former_LE).device_LX
    heaviest_L, former_L = (
        np.stack([np.bincount(row, load, shape.devices).max() for row, load in zip(of_LE, load_LE, strict=True)])
        for of_LE in (device_LE, former_LE)
    )
    adopted_L = former_L > threshold * heaviest_L
    return np.where(adopted_L[:, None], device_LE, former_LE), adopted_L


def devices_of(expert_LP: np.ndarray, experts: int, shape: ClusterShape) -> np.ndarray:
    """Return [L, E], the device of every expert of a placement without replicas."""
    device_LE = np.empty((len(expert_LP), experts), np.int64)
    layer, slot = np.nonzero(expert_LP != EMPTY)
    device_LE[layer, expert_LP[layer, slot]] = slot // shape.slots_per_device
    return device_LE
