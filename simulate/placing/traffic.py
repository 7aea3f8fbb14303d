"""What a placement sends: devices that a token's experts are on, and copies of the token to others than its home.

Letters: T tokens, K selections of a token, D devices, N nodes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.placing.cluster_shape import ClusterShape


@dataclass(frozen=True)
class Traffic:
    """Per token and layer, in the mean over the tokens of a layer that have a route.

    `fan_out`: devices that its experts are on. `remote_selections`: selections that leave the home device.
    `device_copies`: devices other than its home that get a copy. `node_copies`: nodes other than its home's.
    """

    fan_out: float
    remote_selections: float
    device_copies: float
    node_copies: float


def traffic(device_TK: np.ndarray, home_T: np.ndarray, shape: ClusterShape, tokens: int) -> Traffic:
    """Return the traffic of a layer, from the device of every selection (-1 where there is none)."""
    token, _ = filled = np.nonzero(device_TK >= 0)
    device_X = device_TK[filled]
    reached_TD = np.zeros((len(device_TK), shape.devices), bool)
    reached_TD[token, device_X] = True
    node_TN = reached_TD.reshape(len(device_TK), shape.nodes, shape.devices_per_node).any(2)
    row_T, home_node_T = np.arange(len(device_TK)), home_T // shape.devices_per_node
    return Traffic(
        fan_out=int(reached_TD.sum()) / tokens,
        remote_selections=int((device_X != home_T[token]).sum()) / tokens,
        device_copies=int(reached_TD.sum() - reached_TD[row_T, home_T].sum()) / tokens,
        node_copies=int(node_TN.sum() - node_TN[row_T, home_node_T].sum()) / tokens,
    )
