"""Step times from loads: the line with the least relative error, its score, and SmartMoE's constants by hand."""

import numpy as np
import pytest

from moe_replay.analysis.estimates.step_times import Constants, calibrated, scored


def test_a_line_is_found_again():
    heaviest = np.array([10.0, 20, 40, 80])
    line = calibrated(heaviest, 3 + 0.5 * heaviest)
    assert (line.a_ms, line.ms_per_selection) == pytest.approx((3, 0.5))
    np.testing.assert_allclose(line.ms(heaviest), [8, 13, 23, 43])


def test_relative_errors_are_least():
    rng = np.random.default_rng(0)
    heaviest = rng.uniform(10, 100, 50)
    measured = (2 + 0.3 * heaviest) * rng.uniform(0.8, 1.2, 50)
    line = calibrated(heaviest, measured)

    def loss(a_ms, slope):
        return np.square((a_ms + slope * heaviest) / measured - 1).sum()

    least = loss(line.a_ms, line.ms_per_selection)
    for a_ms, slope in ((1.01, 1), (0.99, 1), (1, 1.01), (1, 0.99)):
        assert loss(line.a_ms * a_ms, line.ms_per_selection * slope) > least


def test_scores_by_hand():
    score = scored(np.array([1.0, 2, 4]), np.array([1.0, 2, 3]))
    assert (score.mape, score.r2) == pytest.approx((1 / 9, 1 - 1 / 2))
    assert scored(np.array([2.0, 2]), np.array([1.0, 3])).r2 == 0


def test_constants_by_hand():
    """Two devices: 5 + 1 selections on the first, 3 of them from the second rank, 2 + 2 on the second."""
    load_XRD = np.array([[[3, 2], [3, 2]]])
    constants = Constants(width=10, expansion=2, bytes_per_s=1000, flops=8000)
    compute_s, send_s = 800 / 8000, 20 / 1000
    assert constants.ms(load_XRD)[0] == pytest.approx(1e3 * (3 * compute_s * 6 + 4 * send_s * 3))
    assert Constants().ms(load_XRD)[0] == pytest.approx(1e3 * (3 * 6 * 8 * 1536**2 / 112e12 + 4 * 3 * 3072 / 8e9))
