"""Planner `anti-correlation`: Huang et al. (arXiv 2303.06182), experts that are busy in the same batches kept apart."""

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.slot_filling import filled_slots

PRINTED = 0.5  # the weight in the paper; correlations are of order 1, shares of order 1 / E: .02 balances better


def plan(known: LoadProfile, shape: ClusterShape, weight: float = PRINTED) -> np.ndarray:
    """Return expert_LP: largest mean shares first, each where the sum of shares and weighted correlations is least.

    The score of a device is the sum, over the experts on it, of their mean share plus `weight` times the correlation
    over batches between their shares and those of the expert to place; of equal scores the lowest device takes it.
    """
    mean_LE = known.share_BLE.mean(0)
    device_LE = [
        apart(mean_LE[layer], correlations(known.share_BLE[:, layer]), shape, weight) for layer in range(known.layers)
    ]
    return filled_slots(np.stack(device_LE), shape)


def correlations(share_BE: np.ndarray) -> np.ndarray:
    """Return Pearson's correlation [E, E] over batches; 0 for an expert whose share never changes."""
    apart_BE = share_BE - share_BE.mean(0)
    length_E = np.sqrt((apart_BE**2).sum(0))
    length_EE = length_E[:, None] * length_E
    return np.divide(apart_BE.T @ apart_BE, length_EE, out=np.zeros_like(length_EE), where=length_EE > 0)


def apart(mean_E: np.ndarray, correlation_EE: np.ndarray, shape: ClusterShape, weight: float) -> np.ndarray:
    """Return the device of every expert of a layer; a device's score is summed by the numbers of its experts."""
    device_E = np.full(len(mean_E), -1)
    held_DE = np.zeros((shape.devices, len(mean_E)), bool)
    for expert in np.argsort(-mean_E, kind="stable"):
        score_E = mean_E + weight * correlation_EE[expert]
        score_D = np.array([score_E[held_E].sum() for held_E in held_DE])
        score_D[held_DE.sum(1) == shape.slots_per_device] = np.inf
        device_E[expert] = score_D.argmin()
        held_DE[device_E[expert], expert] = True
    return device_E
