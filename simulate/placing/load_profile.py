"""What a planner knows: how many selections every expert got in every batch, and the tokens where there are any.

Letters: B batches, L layers, E experts, T tokens, K experts of a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from moe_replay.traces.errors import InputError


@dataclass(frozen=True, eq=False)
class LoadProfile:
    """`load_BLE` int64: selections of every batch, layer and expert; `experts_TLK` int16 the tokens that made them.

    `experts_TLK` is None where only counts were recorded; -1 and below is no expert with weights. Planners read the
    profile and change nothing in it.
    """

    load_BLE: np.ndarray
    experts_TLK: np.ndarray | None = None

    @cached_property
    def load_LE(self) -> np.ndarray:
        """Selections of every layer and expert in all batches (int64)."""
        return self.load_BLE.sum(0)

    @cached_property
    def share_BLE(self) -> np.ndarray:
        """The share of a batch's selections in a layer that every expert got; 0 where a layer got none."""
        total_BL1 = self.load_BLE.sum(2, keepdims=True)
        return self.load_BLE / np.maximum(total_BL1, 1)

    @property
    def layers(self) -> int:
        """MoE layers, L."""
        return self.load_BLE.shape[1]

    @property
    def experts(self) -> int:
        """Experts of a layer, E."""
        return self.load_BLE.shape[2]

    def tokens(self, layer: int) -> np.ndarray:
        """Return the experts of every token in a layer [T, K]; InputError where only counts are known."""
        if self.experts_TLK is None:
            raise InputError("counts do not tell which experts a token selects together; allowed: a trace of tokens")
        return self.experts_TLK[:, layer]
