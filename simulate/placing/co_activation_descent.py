"""Descent over swaps of two experts that lowers the fan-out: how many devices a token's experts are on.

Letters: T tokens, K experts of a token, E experts, D devices (or nodes: any groups of slots).
"""

from __future__ import annotations

import numpy as np

from moe_replay.traces.command_line.memory_room import check_room

LEAST_GAIN = 0.5  # pairs are whole numbers, of which float32 holds up to 2^24 exactly


class FanOut:
    """A layer's tokens under a placement, and what every swap of two experts changes in their (token, device) pairs.

    A token loses a pair when the only expert that it has on a device leaves it, and gains one when an expert comes to
    a device where it had none.
    """

    def __init__(self, experts_TK: np.ndarray, experts: int, device_E: np.ndarray, devices: int) -> None:
        self.device_E = device_E.copy()
        routed = experts_TK >= 0
        self.chosen_TE = np.zeros((len(experts_TK), experts), np.float32)
        self.chosen_TE[np.nonzero(routed)[0], experts_TK[routed]] = 1
        self.on_TD = self.chosen_TE @ np.eye(devices, dtype=np.float32)[device_E]
        self.alone_EE, self.absent_ED = np.zeros((experts, experts)), np.zeros((experts, devices))
        self.alone_E = np.zeros(experts)
        self.recount(np.arange(devices))

    def recount(self, changed: np.ndarray) -> None:
        """Count anew what the experts on some devices say.

        `alone_EE[a, b]` are the tokens that have a alone on its device, and b; `alone_E[a]` those that have a alone;
        `absent_ED[a, d]` those that have a, and nothing on d.
        """
        moved_X = np.flatnonzero(np.isin(self.device_E, changed))
        alone_TX = self.chosen_TE[:, moved_X] * (self.on_TD[:, self.device_E[moved_X]] == 1)
        self.alone_EE[moved_X] = alone_TX.T @ self.chosen_TE
        self.alone_E[moved_X] = alone_TX.sum(0)
        self.absent_ED[:, changed] = self.chosen_TE.T @ (self.on_TD[:, changed] == 0).astype(np.float32)

    def changes(self) -> np.ndarray:
        """Return [E, E], how many pairs more there are after a swap of two experts; 0 for two on one device."""
        leaves_EE = self.absent_ED[:, self.device_E] - self.alone_E[:, None] + self.alone_EE
        change_EE = leaves_EE + leaves_EE.T
        change_EE[self.device_E[:, None] == self.device_E] = 0
        return change_EE

    def swap(self, one: int, other: int) -> None:
        """Let two experts take each other's place."""
        changed = self.device_E[[one, other]]
        moved_T = self.chosen_TE[:, other] - self.chosen_TE[:, one]
        self.on_TD[:, changed[0]] += moved_T
        self.on_TD[:, changed[1]] -= moved_T
        self.device_E[[one, other]] = changed[::-1]
        self.recount(changed)


def descended(
    experts_TK: np.ndarray, load_E: np.ndarray, device_E: np.ndarray, devices: int, most: float
) -> np.ndarray:
    """Return device_E after the steepest descent: swap after swap, the one that leaves fewest (token, device) pairs.

    No device comes to more than the load `most`. Of equal swaps the first is taken, by the lower and then the higher
    number of its two experts.
    """
    check_room("co-activation: tokens x (experts + devices)", len(experts_TK) * (len(load_E) + devices), 3 * 4)
    layer = FanOut(experts_TK, len(load_E), device_E, devices)
    lower_EE = np.tril(np.ones((len(load_E), len(load_E)), bool))
    while True:
        load_D = np.bincount(layer.device_E, load_E, devices)
        after_EE = load_D[layer.device_E][:, None] - load_E[:, None] + load_E  # on the first one's device
        change_EE = layer.changes()
        change_EE[lower_EE | (np.maximum(after_EE, after_EE.T) > most)] = 0
        one, other = np.unravel_index(change_EE.argmin(), change_EE.shape)
        if change_EE[one, other] > -LEAST_GAIN:
            return layer.device_E
        layer.swap(int(one), int(other))
