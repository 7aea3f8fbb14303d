"""The time of a layer whose devices have unequal load, from times that were measured with equal loads alone.

A balanced step of n tokens, k experts each, puts n k / D selections on each of D devices, on as many of a device's
E / D experts, up to all of them at n = E / k. A device with s selections on a active experts then takes

    balanced(a D / k) + balanced(max(s D / k, E / k)) - balanced(E / k)

the first part for the weights of the experts that are active, the rest for load beyond one token each. The layer takes
as long as its slowest device. What the rule leaves out: how a device's selections are spread over its own experts, and
that what a kernel does for all tokens, wherever their experts are, does not grow with the load.
"""

from __future__ import annotations

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.served_layers.served_times import ServedTimes


class LayerRule:
    """The rule for one table of times and one number of devices; experts are on them in order, equally many on each."""

    def __init__(self, served: ServedTimes, devices: int) -> None:
        model = served.header["model"]
        self.experts, self.k, self.devices = model["experts"], model["k"], devices
        if self.experts % devices:
            raise InputError(f"{self.experts} experts on {devices} devices, allowed: equally many on each")
        self.tokens, self.took_ns = served.curve(devices)
        self.name = served.name

    def balanced_ns(self, tokens: np.ndarray) -> np.ndarray:
        """Return what a balanced layer takes for these tokens; InputError above what was measured.

        Below the fewest measured tokens the time is theirs: a layer takes some time for any token.
        """
        if (most := tokens.max(initial=0)) > self.tokens[-1]:
            raise InputError(
                f"{self.name}: a device's load is that of {most:,.0f} balanced tokens on {self.devices} devices; "
                f"allowed: up to {self.tokens[-1]:,} (times are never extrapolated)"
            )
        return np.interp(tokens, self.tokens, self.took_ns)

    def reaches(self, load_XE: np.ndarray) -> bool:
        """Whether the heaviest device's load is that of a balanced step which was measured."""
        return bool(self.tokens_of(load_XE).max(initial=0) <= self.tokens[-1])

    def tokens_of(self, load_XE: np.ndarray) -> np.ndarray:
        """Return [X, D] tokens of the balanced step that gives every device its selections."""
        return load_XE.reshape(len(load_XE), self.devices, -1).sum(2) * self.devices / self.k

    def device_ns(self, load_XE: np.ndarray) -> np.ndarray:
        """Return [X, D] ns of every device, from selections of every expert in X layers."""
        weights_ns = self.balanced_ns(self.tokens_of(load_XE > 0))
        full = np.array(self.experts / self.k)
        return weights_ns + self.balanced_ns(np.maximum(self.tokens_of(load_XE), full)) - self.balanced_ns(full)

    def layer_ns(self, load_XE: np.ndarray) -> np.ndarray:
        """Return [X] ns of the slowest device."""
        return self.device_ns(load_XE).max(1)


def one_after_another_ns(costs: tuple[np.ndarray, np.ndarray], load_XE: np.ndarray, devices: int) -> np.ndarray:
    """Return [X] ns of the device whose experts take longest one after another, each batch at a cost of its own.

    `costs` are (tokens, ns) of an expert's batch. InputError for a batch beyond what was measured.
    """
    tokens, took_ns = costs
    if load_XE.max(initial=0) > tokens[-1] or tokens[0] > 1:
        raise InputError(
            f"costs: an expert's batch has 1..{load_XE.max():,} tokens; allowed: {tokens[0]}..{tokens[-1]:,} "
            "(costs are never extrapolated)"
        )
    expert_ns = np.where(load_XE > 0, np.interp(load_XE, tokens, took_ns), 0)
    return expert_ns.reshape(len(load_XE), devices, -1).sum(2).max(1)
