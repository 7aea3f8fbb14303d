"""Which expert is in which slot of which device, for a run on linked devices: from a placement's file or its rule."""

from __future__ import annotations

import numpy as np

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.policies.placement import PLACEMENTS, FilePlacement, place
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.expert_placement import EMPTY


def expert_slots(name: str, layers: int, experts: int, devices: int, cluster: ClusterConfig) -> np.ndarray:
    """Return expert_LP int64: the expert in every slot of every layer, device by device, -1 in an empty one.

    A rule without replicas fills a device's slots ascending; all have as many as the fullest needs. InputError for a
    placement that does not fit.
    """
    PLACEMENTS.check(name)
    rule = PLACEMENTS[name]
    if isinstance(rule, FilePlacement):
        held = rule.checked(layers, experts, devices)
        if held.nodes not in (1, cluster.nodes):
            raise InputError(f"{rule.path}: a placement of {held.nodes} nodes, allowed {cluster.nodes} as in the run")
        return held.expert_LP.astype(np.int64)
    device_LE = place(name, layers, experts, devices)[:layers, 1:]
    most = max(int(np.bincount(row, minlength=devices).max()) for row in device_LE)
    expert_LP = np.full((layers, devices * most), EMPTY, np.int64)
    for layer, device_E in enumerate(device_LE):
        order = np.argsort(device_E, kind="stable")
        first_D = np.searchsorted(device_E[order], np.arange(devices))
        within = np.arange(experts) - first_D[device_E[order]]
        expert_LP[layer, device_E[order] * most + within] = order
    return expert_LP
