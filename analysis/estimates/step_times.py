"""Step times of a mixture-of-experts layer from the loads of its devices: by calibration, and by SmartMoE's constants.

Calibration: ms = a + b * selections of the heaviest device, fitted to measured times so that the squares of *relative*
errors are least (a millisecond weighs more where steps are short). Constants: the cost model of FasterMoE that SmartMoE
takes over, T = 3 * comp * C + 4 * send * B, with C the selections that the heaviest device computes and B the most that
one device receives from others; comp = 4 alpha H^2 / FLOP/s, send = 2 H / bytes/s. Shadowed experts are left out:
their broadcasts need a choice that loads alone do not tell.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """A line through measured times: `a_ms`, and `ms_per_selection` of the heaviest device."""

    a_ms: float
    ms_per_selection: float

    def ms(self, heaviest_X: np.ndarray) -> np.ndarray:
        """Return the times of steps whose heaviest device has so many selections."""
        return self.a_ms + self.ms_per_selection * heaviest_X


def calibrated(heaviest_X: np.ndarray, measured_X: np.ndarray) -> Calibration:
    """Return the line with the least sum of squared relative errors; measured times are above 0."""
    weight_X = 1 / measured_X
    design = np.stack([weight_X, heaviest_X * weight_X], axis=1)
    (a_ms, slope), *_ = np.linalg.lstsq(design, np.ones(len(measured_X)), rcond=None)
    return Calibration(float(a_ms), float(slope))


@dataclass(frozen=True)
class Score:
    """How well times are predicted: mean absolute relative error, and the share of variance explained."""

    mape: float
    r2: float


def scored(predicted_X: np.ndarray, measured_X: np.ndarray) -> Score:
    """Return the score of predictions; R2 is against the mean of what was measured, and may be below 0."""
    rest = np.square(predicted_X - measured_X).sum()
    spread = np.square(measured_X - measured_X.mean()).sum()
    return Score(float(np.abs(predicted_X / measured_X - 1).mean()), float(1 - rest / spread))


@dataclass(frozen=True)
class Constants:
    """The constants of the cost model; the defaults are those of SmartMoE's artifact (8 GPUs).

    `expansion` is alpha (hidden units of an expert over the width), `width` H, `bytes_per_s` of a device's port.
    """

    width: int = 1536
    expansion: float = 2.0
    bytes_per_s: float = 8e9
    flops: float = 112e12

    def ms(self, load_XRD: np.ndarray) -> np.ndarray:
        """Return the times [X] from selections by rank that sent them and device that computes them, rank = device.

        What a rank sends to itself costs no transfer. A value is bf16: two bytes.
        """
        computed_XD = load_XRD.sum(1)
        received_XD = computed_XD - np.diagonal(load_XRD, axis1=1, axis2=2)
        compute_s = 4 * self.expansion * self.width**2 / self.flops
        send_s = 2 * self.width / self.bytes_per_s
        return 1e3 * (3 * compute_s * computed_XD.max(1) + 4 * send_s * received_XD.max(1))
