"""Planner `exact`: the least possible load of the heaviest device, by mixed-integer programming; small layers only."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.slot_filling import filled_slots
from moe_replay.traces.errors import InputError

MOST_CHOICES = 64  # experts x devices of a layer; above, a layer may take minutes
LONGEST_S = 60.0  # of one layer


def plan(known: LoadProfile, shape: ClusterShape) -> np.ndarray:
    """Return expert_LP with the least load of the heaviest device; InputError where a layer has too many choices."""
    choices = known.experts * shape.devices
    if choices > MOST_CHOICES:
        raise InputError(
            f"exact: {known.experts} experts on {shape.devices} devices, allowed up to {MOST_CHOICES} experts x devices"
        )
    return filled_slots(np.stack([least(load_E, shape) for load_E in known.load_LE]), shape)


def least(load_E: np.ndarray, shape: ClusterShape) -> np.ndarray:
    """Return the device of every expert of a layer.

    Choices x_ED and the heaviest load t: minimise t where every expert is on one device, no device has more experts
    than slots, nor more load than t. Devices are alike, so expert e is on one of the first e + 1.
    """
    from scipy.optimize import Bounds, LinearConstraint, milp  # late: commands that list planners need no scipy
    from scipy.sparse import csr_array, hstack, kron

    experts, devices = len(load_E), shape.devices
    unit = max(1.0, float(load_E.max()))  # loads near 1: the solver's tolerances are absolute
    no_load = csr_array((experts + devices, 1))
    once_slots = hstack([csr_array(np.vstack([
        kron(np.eye(experts), np.ones((1, devices))).toarray(), kron(np.ones((1, experts)), np.eye(devices)).toarray(),
    ])), no_load])  # fmt: skip
    loads = hstack([kron(load_E[None] / unit, np.eye(devices)), -np.ones((devices, 1))])
    upper_ED = np.tril(np.ones((experts, devices)))
    found = milp(
        np.append(np.zeros(experts * devices), 1.0),
        integrality=np.append(np.ones(experts * devices), 0),
        bounds=Bounds(0, np.append(upper_ED.ravel(), np.inf)),
        constraints=[
            LinearConstraint(
                once_slots, np.append(np.ones(experts), np.zeros(devices)),
                np.append(np.ones(experts), np.full(devices, shape.slots_per_device)),
            ),
            LinearConstraint(loads, -np.inf, 0),
        ],
        options={"time_limit": LONGEST_S, "mip_rel_gap": 0},
    )  # fmt: skip
    if found.status != 0:
        raise InputError(f"exact: no proven optimum in {LONGEST_S:g} s for {experts} experts; allowed: another planner")
    return found.x[:-1].reshape(experts, devices).argmax(1)
