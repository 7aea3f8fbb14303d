"""The lack-of-fit test: right by hand, calibrated under a line, and awake to a bend."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from moe_replay.analysis.estimates.line_fit import fit_line, seed_contrasts


def accuracies(rng, shape, seeds=3, levels=8, noise=0.15, seed_shift=0.5):
    k = np.arange(1, levels + 1)
    values = 50 + shape(k) + rng.normal(0, seed_shift, (seeds, 1)) + rng.normal(0, noise, (seeds, levels))
    return pd.DataFrame(values, index=range(seeds), columns=k)


def test_f_by_hand_for_a_balanced_table():
    values = accuracies(np.random.default_rng(0), lambda k: 0.3 * k)
    found, y = fit_line(values), values.to_numpy()
    centred = y - y.mean(axis=1, keepdims=True)
    k = values.columns.to_numpy() - values.columns.to_numpy().mean()
    slope = centred.mean(axis=0) @ k / (k @ k)
    between = 3 * np.sum(centred.mean(axis=0) ** 2)
    line = 3 * slope**2 * (k @ k)
    error = np.sum((centred - centred.mean(axis=0)) ** 2)
    assert (found.df_lack, found.df_error) == (6, 14)
    assert found.slope == pytest.approx(slope)
    assert found.share == pytest.approx(line / between)
    assert pytest.approx((between - line) / 6 / (error / 14)) == found.F
    assert found.p == pytest.approx(stats.f.sf(found.F, 6, 14))
    assert found.p_conservative == pytest.approx(stats.f.sf(found.F, 1, 2))
    assert found.value_at(4.5) == pytest.approx(y.mean())


def test_p_is_uniform_under_an_exact_line():
    rng = np.random.default_rng(1)
    p = [fit_line(accuracies(rng, lambda k: 0.3 * k)).p for _ in range(400)]
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert abs(np.mean(np.array(p) < 0.05) - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 400)


def test_a_bend_is_found():
    rng = np.random.default_rng(2)
    fits = [fit_line(accuracies(rng, lambda k: 1.5 * (1 - np.exp(-(k - 1) / 2)))) for _ in range(50)]
    assert np.mean([fit.p < 0.05 for fit in fits]) > 0.95
    assert all(fit.quadratic.high < 0 for fit in fits)


def test_correlation_within_a_seed_needs_the_conservative_p():
    """Seeds with smooth curves of their own: the exact p rejects a true line too often, the conservative does not."""
    rng = np.random.default_rng(3)
    exact = conservative = 0
    for _ in range(300):
        values = accuracies(rng, lambda k: 0.3 * k, noise=0.01)
        values += rng.normal(0, 0.01, (3, 1)) * (values.columns.to_numpy() - 4.5) ** 2
        fit = fit_line(values)
        exact, conservative = exact + (fit.p < 0.05), conservative + (fit.p_conservative < 0.05)
    assert exact > 40  # of 15 that a calibrated test gives
    assert conservative < 15 + 4 * np.sqrt(300 * 0.05 * 0.95)


def test_quadratic_interval_covers():
    rng = np.random.default_rng(4)
    fits = [fit_line(accuracies(rng, lambda k: 0.5 * k - 0.02 * k**2)).quadratic for _ in range(400)]
    covered = np.mean([fit.low <= -0.02 <= fit.high for fit in fits])
    assert abs(covered - 0.95) < 4 * np.sqrt(0.05 * 0.95 / 400)


def test_missing_runs_are_left_out_not_filled():
    values = accuracies(np.random.default_rng(5), lambda k: 0.3 * k, noise=1e-6, seed_shift=3)
    values.loc[0, 8] = np.nan
    values.loc[2, 1] = np.nan
    found = fit_line(values)
    assert found.slope == pytest.approx(0.3, abs=1e-4)  # without blocks the shifts of 3 points would tilt it
    assert found.df_error == 12


def test_one_seed_has_no_test():
    found = fit_line(accuracies(np.random.default_rng(6), lambda k: 0.3 * k, seeds=1))
    assert np.isnan(found.p)


def test_seed_contrasts_are_per_seed_polynomials():
    k = np.arange(1, 6)
    values = pd.DataFrame([2 * k + 1.0, 0.5 * k**2], columns=k)
    slope, bend = seed_contrasts(values)
    assert slope[0] == pytest.approx(2)
    assert bend == pytest.approx([0, 0.5], abs=1e-9)
