"""The rule for unequal loads: by hand, and exact where a layer's time is that of its weights and its load."""

import numpy as np
import pytest
from moe_tables import layer_us, write_moe_tables

from moe_replay.simulate.skew.layer_rule import LayerRule, one_after_another_ns
from moe_replay.traces.errors import InputError
from moe_replay.traces.served_layers.aiconfigurator import chosen_kind, gpu_folder, kinds_of, served_times


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    gpu = gpu_folder(write_moe_tables(tmp_path_factory.mktemp("moe")), "toy_sxm")
    return served_times(gpu, chosen_kind(kinds_of(gpu, "vllm", "0.24.0"), {}), None, None, "toy")


def us(ns):
    return np.round(ns / 1e3, 3).tolist()


def test_a_step_by_hand(served):
    """Eight experts on two devices: 10 us, 5 an active expert, 1 a selection; k 2, so 8 selections are 8 tokens here.

    First layer: 8 selections on all four experts, 10 + 20 + 8 = 38 us; 4 on one: as little as one balanced token, which
    has 1 selection here, 16, and no load beyond one token each. Second: 12 on two of them: 10 + 10 + 2 for the weights,
    and 8 more than one each; nothing, which is taken for half a token.
    """
    load_XE = np.array([[2, 2, 2, 2, 4, 0, 0, 0], [6, 6, 0, 0, 0, 0, 0, 0]])
    rule = LayerRule(served, 2)
    assert us(rule.device_ns(load_XE)) == [[38, 16], [30, 16]]
    assert us(rule.layer_ns(load_XE)) == [38, 30]


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_equal_loads_take_what_was_measured_and_unequal_ones_what_the_heaviest_device_does(served, devices):
    rule, own = LayerRule(served, devices), 8 // devices
    for tokens in (4, 16, 64):
        load_E = np.full(8, tokens * 2 // 8)
        np.testing.assert_allclose(rule.layer_ns(load_E[None]), 1e3 * layer_us(devices, tokens), atol=1)
    rng = np.random.default_rng(devices)
    load_XE = rng.integers(1, 5, (50, 8))  # every expert is active: 10 + 5 of each + the selections of the heaviest
    heaviest_X = load_XE.reshape(50, devices, own).sum(2).max(1)
    np.testing.assert_allclose(rule.layer_ns(load_XE), 1e3 * (10 + 5 * own + heaviest_X), atol=3)


def test_more_load_and_more_active_experts_never_take_less(served):
    rule, rng = LayerRule(served, 2), np.random.default_rng(0)
    load_XE = rng.integers(0, 6, (100, 8))
    more_XE = load_XE + (rng.random(load_XE.shape) < 0.3)
    assert (rule.layer_ns(more_XE) >= rule.layer_ns(load_XE) - 1e-6).all()


def test_nothing_is_extrapolated(served):
    rule = LayerRule(served, 4)
    load_XE = np.array([[33, 0, 0, 0, 0, 0, 0, 0]])
    assert not rule.reaches(load_XE)
    with pytest.raises(InputError, match=r"load is that of 66 balanced tokens on 4 devices; allowed: up to 64"):
        rule.layer_ns(load_XE)
    assert rule.reaches(load_XE - np.array([[1] + [0] * 7]))
    with pytest.raises(InputError, match="no balanced layer on 8 devices was measured; allowed: 1, 2, 4 devices"):
        LayerRule(served, 8)
    with pytest.raises(InputError, match="8 experts on 3 devices, allowed: equally many on each"):
        LayerRule(served, 3)


def test_experts_one_after_another_take_their_sum_on_the_slowest_device():
    costs = np.array([1, 11]), np.array([100.0, 200.0])
    load_XE = np.array([[1, 0, 11, 6], [0, 0, 1, 0]])
    assert one_after_another_ns(costs, load_XE, 2).tolist() == [350, 100]
    assert one_after_another_ns(costs, load_XE, 1).tolist() == [450, 100]
    with pytest.raises(InputError, match=r"an expert's batch has 1..12 tokens; allowed: 1..11"):
        one_after_another_ns(costs, load_XE + 1, 1)
