"""What a configuration will give: models of quality, latency and memory, fitted to a profile.

The paper (arXiv 2308.15030, section 4.3) profiles all three and does not give their forms. Chosen here:

- memory: a + b * (slots of all layers);
- latency: a + b * (experts that a pass runs: the smaller of k and the slots, summed over layers) + c / period;
- loss of quality: (s(period) * sum over layers of w_l * (1 - C_l / E) ** beta) ** gamma, all weights >= 0: every layer
  has its own weight, losses grow faster (or slower) than the experts that are missing, and periods scale them.

The first two are least squares. Of the third, beta and gamma are the best of a grid; weights and scales take turns in
non-negative least squares. `errors` are from leaving one configuration out at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from simulate.planning.profile import NO_PERIOD, Profile

BETAS = (1.0, 1.5, 2.0, 3.0)
GAMMAS = (0.75, 1.0, 1.5, 2.0, 3.0)
TURNS = 8


@dataclass(frozen=True)
class Models:
    """Fitted models. `weights_L`, `beta`, `gamma`, `scale` (by period) of the loss; the rest are coefficients."""

    experts: int
    k: int
    memory: tuple[float, float]
    latency: tuple[float, float, float]
    weights_L: np.ndarray
    beta: float
    gamma: float
    scale: dict[int, float]

    def memory_bytes(self, slots_L: np.ndarray) -> float:
        """Return the bytes on the device."""
        return self.memory[0] + self.memory[1] * float(np.sum(slots_L))

    def latency_ms(self, slots_L: np.ndarray, period: int) -> float:
        """Return the mean time of a pass."""
        first, per_expert, swapping = self.latency
        ran = float(np.minimum(slots_L, self.k).sum())
        return first + per_expert * ran + (swapping / period if period != NO_PERIOD else 0.0)

    def pain(self, slots_L: np.ndarray) -> float:
        """Return what the loss grows with, whatever the period: the sum over layers."""
        return float((self.weights_L * missing(np.asarray(slots_L), self.experts, self.beta)).sum())

    def loss(self, slots_L: np.ndarray, period: int) -> float:
        """Return the loss of quality."""
        return (self.scale[period] * self.pain(slots_L)) ** self.gamma


def missing(slots: np.ndarray, experts: int, beta: float) -> np.ndarray:
    """Return (1 - C / E) ** beta."""
    return (1 - slots / experts) ** beta


def fit(profile: Profile) -> Models:
    """Return the models that fit a profile best."""
    total_N = profile.slots_NL.sum(1)
    ran_N = np.minimum(profile.slots_NL, profile.k).sum(1)
    swapping_N = np.where(profile.period_N == NO_PERIOD, 0.0, 1 / np.maximum(profile.period_N, 1))
    memory = least_squares(profile.memory_bytes_N, total_N)
    latency = least_squares(profile.latency_ms_N, ran_N, swapping_N)
    best = min((fit_loss(profile, beta, gamma) for beta in BETAS for gamma in GAMMAS), key=lambda found: found[0])
    _, weights_L, scale, beta, gamma = best
    return Models(profile.experts, profile.k, memory, latency, weights_L, beta, gamma, scale)


def least_squares(target_N: np.ndarray, *columns: np.ndarray) -> tuple[float, ...]:
    """Return the coefficients of 1 and of each column, the columns' not negative."""
    design = np.column_stack([np.ones(len(target_N)), -np.ones(len(target_N)), *columns])
    scale = np.maximum(np.abs(design).max(0), 1e-30)
    found = nnls(design / scale, target_N)[0] / scale
    return (float(found[0] - found[1]), *map(float, found[2:]))


def fit_loss(
    profile: Profile, beta: float, gamma: float
) -> tuple[float, np.ndarray, dict[int, float], float, float]:  # fmt: skip
    """Return (squared error, weights, scales, beta, gamma) of the loss for given exponents."""
    gone_NL = missing(profile.slots_NL, profile.experts, beta)
    target_N = np.maximum(profile.loss_N, 0.0) ** (1 / gamma)
    scale = dict.fromkeys(profile.periods, 1.0)
    weights_L = np.zeros(profile.layers)
    for _ in range(TURNS):
        scale_N = np.array([scale[period] for period in profile.period_N.tolist()])
        weights_L = nnls(gone_NL * scale_N[:, None], target_N)[0]
        pain_N = gone_NL @ weights_L
        for period in profile.periods[1:]:  # the first stays 1: it fixes the unit
            own = profile.period_N == period
            square = float((pain_N[own] ** 2).sum())
            scale[period] = float((pain_N[own] * target_N[own]).sum()) / square if square else 1.0
    scale_N = np.array([scale[period] for period in profile.period_N.tolist()])
    predicted_N = (scale_N * (gone_NL @ weights_L)) ** gamma
    return float(((predicted_N - profile.loss_N) ** 2).sum()), weights_L, scale, beta, gamma


def left_out_errors(profile: Profile, fit_models: Callable[[Profile], Models] = fit) -> dict[str, float]:
    """Return the median absolute error of every model at configurations that it was not fitted to."""
    count = len(profile.slots_NL)
    errors: dict[str, list[float]] = {"loss": [], "latency_ms": [], "memory_bytes": []}
    for i in range(count):
        others = np.arange(count) != i
        rest = Profile(
            profile.slots_NL[others], profile.period_N[others], profile.loss_N[others], profile.latency_ms_N[others],
            profile.memory_bytes_N[others], profile.experts, profile.k,
        )  # fmt: skip
        slots_L, period = profile.slots_NL[i], int(profile.period_N[i])
        if period not in rest.periods:
            continue
        models = fit_models(rest)
        errors["loss"].append(abs(models.loss(slots_L, period) - profile.loss_N[i]))
        errors["latency_ms"].append(abs(models.latency_ms(slots_L, period) - profile.latency_ms_N[i]))
        errors["memory_bytes"].append(abs(models.memory_bytes(slots_L) - profile.memory_bytes_N[i]))
    return {name: float(np.median(found)) for name, found in errors.items()}
