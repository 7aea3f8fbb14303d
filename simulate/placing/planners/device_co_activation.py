"""Planner `co-activation`: experts that tokens select together share a device, as far as balance allows."""

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.co_activation_descent import descended
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.slot_filling import filled_slots, least_loaded

SLACK = 0.05


def plan(known: LoadProfile, shape: ClusterShape, slack: float = SLACK) -> np.ndarray:
    """Return expert_LP: from `lpt`, swaps of two experts while tokens' experts come to be on fewer devices.

    The heaviest device may have up to 1 + `slack` times the load that it has under `lpt`. InputError for counts
    without tokens.
    """
    return filled_slots(grouped_devices(known, shape.devices, shape.slots_per_device, slack), shape)


def grouped_devices(known: LoadProfile, devices: int, most: int, slack: float) -> np.ndarray:
    """Return device_LE of the descent on `devices` with `most` slots each."""
    start_LE = least_loaded(known.load_LE, devices, most).device_LX
    return np.stack([
        descended(
            known.tokens(layer), known.load_LE[layer], start_LE[layer], devices,
            (1 + slack) * np.bincount(start_LE[layer], known.load_LE[layer], devices).max(),
        )
        for layer in range(known.layers)
    ])  # fmt: skip
