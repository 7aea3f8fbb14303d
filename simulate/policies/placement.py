"""Placements: which device holds which block. Functions from sizes to a map (layer, block) -> device."""

from collections.abc import Callable

import numpy as np

from moe_replay.simulate.policies.rule_names import Rules
from moe_replay.traces.errors import InputError


def contiguous(layers: int, experts: int, devices: int) -> np.ndarray:
    """Return device_LB (L+1, 1+E): neighbours stay together.

    Expert e of every layer is on device e * devices // experts. The dense blocks, of which there are L+1, are
    shared out in the same manner over the layers, so that no device carries all of them.
    """
    device_LB = np.empty((layers + 1, experts + 1), np.int64)
    device_LB[:, 0] = np.arange(layers + 1) * devices // (layers + 1)
    device_LB[:, 1:] = np.arange(experts) * devices // experts
    return device_LB


PLACEMENTS: Rules[Callable[[int, int, int], np.ndarray]] = Rules(
    "placement", "placement", None, {"contiguous": contiguous}, arguments=("layers", "experts", "devices")
)


def place(name: str, layers: int, experts: int, devices: int) -> np.ndarray:
    """Return device_LB of the named placement.

    InputError for an unknown name, more devices than experts, or a user's own placement that is no such map.
    """
    PLACEMENTS.check(name)
    if devices > experts:
        raise InputError(f"devices is {devices}, allowed: at most one for each of the {experts} experts")
    device_LB, shape = np.asarray(PLACEMENTS[name](layers, experts, devices)), (layers + 1, experts + 1)
    if device_LB.shape != shape or device_LB.dtype.kind not in "iu":
        raise InputError(
            f"placement {name!r} gives {device_LB.dtype} of shape {device_LB.shape}, allowed: integers of shape {shape}"
        )
    if device_LB.min() < 0 or device_LB.max() >= devices:
        worst = device_LB.min() if device_LB.min() < 0 else device_LB.max()
        raise InputError(f"placement {name!r} gives device {worst}, allowed 0..{devices - 1}")
    if len(np.unique(device_LB[:layers, 1:])) < devices:
        raise InputError(f"placement {name!r} leaves a device without experts; allowed: some on each of {devices}")
    return device_LB.astype(np.int64)
