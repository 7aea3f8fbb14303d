"""Tokens of a spread: equal loads, power laws of the stated exponent, distinct experts of every token."""

import numpy as np
import pytest

from moe_replay.simulate.skew.spread_tokens import balanced_tokens, power_law_tokens, spread_tokens, whole_loads
from moe_replay.traces.errors import InputError

SHAPES = [(1, 32, 4), (3, 10, 4), (8, 32, 4), (9, 9, 4), (64, 32, 4), (300, 8, 2), (100, 128, 8), (50, 5, 5)]


@pytest.mark.parametrize(("tokens", "experts", "k"), SHAPES)
def test_every_token_has_distinct_experts_of_the_layer(tokens, experts, k):
    rng = np.random.default_rng(0)
    for spread in ("balanced", "power_law_1.01", "power_law_1.2", "power_law_3"):
        for experts_NK in spread_tokens(spread, tokens, experts, k, rng):
            assert experts_NK.shape == (tokens, k)
            assert experts_NK.min() >= 0
            assert experts_NK.max() < experts
            assert all(len(set(row)) == k for row in experts_NK.tolist())


@pytest.mark.parametrize(("tokens", "experts", "k"), SHAPES)
def test_balanced_loads_are_equal_on_experts_and_on_devices(tokens, experts, k):
    load_E = np.bincount(balanced_tokens(tokens, experts, k).ravel(), minlength=experts)
    assert np.ptp(load_E) <= (2 if tokens * k > experts else 1)
    if tokens * k % experts == 0 and experts % k == 0:
        assert np.ptp(load_E) == 0
    if tokens * k <= experts and experts % 2 == 0 and tokens * k % 2 == 0:
        assert load_E[: experts // 2].sum() == load_E[experts // 2 :].sum()


@pytest.mark.parametrize("exponent", [1.01, 1.2, 2.0])
def test_power_laws_have_their_exponent(exponent):
    """Weights between 1 and 0.8 N have the density x^-A, whose quantiles are known; loads are these times a number."""
    tokens, experts, shares = 1_000_000, 4000, np.array([0.5, 0.7, 0.9])
    rng = np.random.default_rng(1)
    load_E = np.bincount(power_law_tokens(tokens, experts, 8, exponent, rng).ravel(), minlength=experts)
    ends = np.array([1, 0.8 * tokens]) ** (1 - exponent)
    wanted = (ends[0] + (ends[1] - ends[0]) * shares) ** (1 / (1 - exponent))
    found = np.quantile(load_E, shares)
    # Four standard errors of a quantile of 4,000, as the share that lies below where it is wanted.
    above = (ends[0] - (wanted[0] * found / found[0]) ** (1 - exponent)) / (ends[0] - ends[1])
    assert np.abs(above - shares).max() < 4 * 2 * 0.5 / np.sqrt(experts)
    assert np.abs(np.log(wanted[2] / wanted[0])) > 1  # else any law would do


def test_whole_loads_add_up_within_their_bounds():
    rng = np.random.default_rng(2)
    for _ in range(200):
        experts, most = int(rng.integers(1, 20)), int(rng.integers(1, 50))
        total = int(rng.integers(0, experts * most + 1))
        weight_E = rng.random(experts) ** 5 + 1e-9
        found_E = whole_loads(weight_E * total / weight_E.sum(), most, total)
        assert found_E.sum() == total
        assert found_E.min() >= 0
        assert found_E.max() <= most


def test_a_spread_that_nobody_explains_is_refused():
    for spread in ("uniform", "power_law_", "power_law_x", "power_law_1", "power_law_nan", "power_law_-2"):
        with pytest.raises(InputError, match=f"spread '{spread}'.*allowed: balanced, power_law_A"):
            spread_tokens(spread, 4, 8, 2, np.random.default_rng(0))
