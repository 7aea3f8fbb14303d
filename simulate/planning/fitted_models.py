"""What a configuration will give: models of quality, latency and memory, fitted to a profile.

The paper (arXiv 2308.15030, section 4.3) profiles all three and does not give their forms. Chosen here:

- memory: a + b * (slots of all layers);
- latency: a + b * (experts that a pass runs: the smaller of k and the slots, summed over layers) + c / period;
- loss of quality: (s(period) * sum over layers of f_l(C_l)) ** gamma, where f_l is a sum of powers of 1 - C_l / E with
  weights >= 0: every layer has a falling, convex curve of its own, and periods scale the whole.

The first two are least squares. Of the third, weights and scales take turns in non-negative least squares; the set of
powers and gamma are those of a grid that predict left-out tenths of the profile best.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.optimize import nnls

from moe_replay.simulate.planning.measurements import NO_PERIOD, Profile
from moe_replay.traces.errors import InputError

POWERS = ((1,), (1.5,), (2,), (3,), (1, 4), (1, 3, 8), (2, 8))
GAMMAS = (0.75, 1.0, 1.5, 2.0, 3.0)
TURNS = 6
FOLDS = 10


@dataclass(frozen=True)
class LossModel:
    """`weights_LP` of every layer's powers, and `scale` by period."""

    experts: int
    powers: tuple[float, ...]
    gamma: float
    weights_LP: np.ndarray
    scale: dict[int, float]

    def pain_LC(self) -> np.ndarray:
        """Return f_l(C) for C = 0..E, [L, E + 1]."""
        gone_C = 1 - np.arange(self.experts + 1) / self.experts
        return self.weights_LP @ np.array([gone_C**power for power in self.powers])

    def loss(self, slots_NL: np.ndarray, period_N: np.ndarray) -> np.ndarray:
        """Return the loss of N configurations."""
        pain_LC, scale_N = self.pain_LC(), np.array([self.scale[int(period)] for period in period_N])
        pain_N = pain_LC[np.arange(len(pain_LC)), slots_NL].sum(1)
        return (scale_N * pain_N) ** self.gamma


@dataclass(frozen=True)
class Models:
    """Fitted models; `memory` and `latency` are coefficients in the order of the module's text."""

    experts: int
    k: int
    memory: tuple[float, float]
    latency: tuple[float, float, float]
    quality: LossModel

    def memory_bytes(self, slots_L: np.ndarray) -> float:
        """Return the bytes on the device."""
        return self.memory[0] + self.memory[1] * float(np.sum(slots_L))

    def latency_ms(self, slots_L: np.ndarray, period: int) -> float:
        """Return the mean time of a pass."""
        first, per_expert, swapping = self.latency
        ran = float(np.minimum(slots_L, self.k).sum())
        return first + per_expert * ran + (swapping / period if period != NO_PERIOD else 0.0)

    def loss(self, slots_L: np.ndarray, period: int) -> float:
        """Return the loss of quality."""
        return float(self.quality.loss(np.asarray(slots_L)[None], np.array([period]))[0])

    @property
    def periods(self) -> list[int]:
        """The periods that were measured."""
        return sorted(self.quality.scale)


def fit(profile: Profile) -> Models:
    """Return the models that fit a profile best; InputError where it has too few configurations."""
    needed = 2 * profile.layers
    if len(profile.loss_N) < needed:
        raise InputError(f"the profile has {len(profile.loss_N)} configurations, allowed {needed} and more")
    total_N = profile.slots_NL.sum(1)
    memory = least_squares(profile.memory_bytes_N, total_N)
    latency = least_squares(profile.latency_ms_N, *latency_columns(profile))
    tried = [
        (float(((left_out(profile, powers, gamma) - profile.loss_N) ** 2).mean()), powers, gamma)
        for powers, gamma in product(POWERS, GAMMAS)
    ]
    _, powers, gamma = min(tried)
    return Models(profile.experts, profile.k, memory, latency, fit_loss(profile, powers, gamma))


def latency_columns(profile: Profile) -> tuple[np.ndarray, np.ndarray]:
    """Return what latency depends on: experts that a pass runs, and changes of residents per pass."""
    swapping_N = np.where(profile.period_N == NO_PERIOD, 0.0, 1 / np.maximum(profile.period_N, 1))
    return np.minimum(profile.slots_NL, profile.k).sum(1), swapping_N


def least_squares(target_N: np.ndarray, *columns: np.ndarray) -> tuple[float, ...]:
    """Return the coefficients of 1 and of each column, the columns' not negative."""
    design = np.column_stack([np.ones(len(target_N)), -np.ones(len(target_N)), *columns])
    scale = np.maximum(np.abs(design).max(0), 1e-30)
    found = nnls(design / scale, target_N)[0] / scale
    return (float(found[0] - found[1]), *map(float, found[2:]))


def fit_loss(profile: Profile, powers: tuple[float, ...], gamma: float) -> LossModel:
    """Return the loss model of given powers and gamma."""
    gone_NL = 1 - profile.slots_NL / profile.experts
    design_NX = np.concatenate([gone_NL**power for power in powers], axis=1)
    target_N = np.maximum(profile.loss_N, 0.0) ** (1 / gamma)
    scale = dict.fromkeys(profile.periods, 1.0)
    weights_X = np.zeros(design_NX.shape[1])
    for _ in range(TURNS):
        scale_N = np.array([scale[period] for period in profile.period_N.tolist()])
        weights_X = nnls(design_NX * scale_N[:, None], target_N)[0]
        pain_N = design_NX @ weights_X
        for period in profile.periods[1:]:  # the first stays 1: it fixes the unit
            own = profile.period_N == period
            square = float((pain_N[own] ** 2).sum())
            scale[period] = float((pain_N[own] * target_N[own]).sum()) / square if square else 1.0
    return LossModel(profile.experts, powers, gamma, weights_X.reshape(len(powers), -1).T, scale)


def left_out(profile: Profile, powers: tuple[float, ...], gamma: float) -> np.ndarray:
    """Return the loss that models predict for every tenth of a profile that they were not fitted to."""
    count = len(profile.loss_N)
    fold_N = np.random.default_rng(0).permutation(count) % FOLDS
    predicted_N = np.empty(count)
    for fold in range(FOLDS):
        own = fold_N == fold
        model = fit_loss(profile.only(~own), powers, gamma)
        scale = {period: model.scale.get(period, 1.0) for period in profile.periods}
        known = LossModel(model.experts, powers, gamma, model.weights_LP, scale)
        predicted_N[own] = known.loss(profile.slots_NL[own], profile.period_N[own])
    return predicted_N


def errors(profile: Profile, models: Models) -> dict[str, float]:
    """Return median absolute errors: of the loss at left-out configurations, of latency and memory at all."""
    predicted_N = left_out(profile, models.quality.powers, models.quality.gamma)
    pairs = list(zip(profile.slots_NL, profile.period_N.tolist(), strict=True))
    latency_N = np.array([models.latency_ms(slots_L, period) for slots_L, period in pairs])
    memory_N = np.array([models.memory_bytes(slots_L) for slots_L, _ in pairs])
    return {
        "loss": float(np.median(np.abs(predicted_N - profile.loss_N))),
        "latency_ms": float(np.median(np.abs(latency_N - profile.latency_ms_N))),
        "memory_bytes": float(np.median(np.abs(memory_N - profile.memory_bytes_N))),
    }
