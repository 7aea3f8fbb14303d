"""Placements: which device holds which block. Functions from sizes to a map (layer, block) -> device."""

import numpy as np

from traces.errors import InputError, unknown_name


def contiguous(layers: int, experts: int, devices: int) -> np.ndarray:
    """Return device_LB (L+1, 1+E): neighbours stay together.

    Expert e of every layer stands on device e * devices // experts. The dense blocks, of which there are L+1, are
    shared out in the same manner over the layers, so that no device carries all of them.
    """
    device_LB = np.empty((layers + 1, experts + 1), np.int64)
    device_LB[:, 0] = np.arange(layers + 1) * devices // (layers + 1)
    device_LB[:, 1:] = np.arange(experts) * devices // experts
    return device_LB


PLACEMENTS = {"contiguous": contiguous}


def place(name: str, layers: int, experts: int, devices: int) -> np.ndarray:
    """Return device_LB of the named placement; InputError for an unknown name or more devices than experts."""
    if name not in PLACEMENTS:
        raise unknown_name("placement", name, PLACEMENTS)
    if devices > experts:
        raise InputError(f"devices is {devices}, allowed: at most one for each of the {experts} experts")
    return PLACEMENTS[name](layers, experts, devices)
