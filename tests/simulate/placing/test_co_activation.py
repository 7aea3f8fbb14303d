"""Co-activation: fan-outs by counting, a descent by brute force, and what nodes-first keeps."""

import itertools

import numpy as np
import pytest

from moe_replay.simulate.placing.cluster_shape import shape_for
from moe_replay.simulate.placing.co_activation_descent import FanOut, descended
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import planned
from moe_replay.simulate.placing.planners.smartmoe import devices_of
from moe_replay.traces.errors import InputError


def pairs(experts_TK, device_E):
    return sum(len({device_E[expert] for expert in row if expert >= 0}) for row in experts_TK.tolist())


def test_every_change_is_what_counting_anew_finds(rng):
    experts_TK = np.stack([rng.permutation(8)[:3] for _ in range(60)])
    experts_TK[rng.random(experts_TK.shape) < 0.1] = -1  # a dynamic K leaves slots empty
    device_E = rng.permutation(np.arange(8) % 4)
    layer = FanOut(experts_TK, 8, device_E, 4)
    for one, other in ((0, 3), (5, 2), (7, 1)):
        before = pairs(experts_TK, layer.device_E)
        change_EE = layer.changes()
        for a, b in itertools.combinations(range(8), 2):
            swapped_E = layer.device_E.copy()
            swapped_E[[a, b]] = swapped_E[[b, a]]
            assert change_EE[a, b] == pairs(experts_TK, swapped_E) - before
        layer.swap(one, other)


def test_the_descent_takes_the_steepest_swap_and_stops_at_the_load(rng):
    """Tokens select 0 with 4 and 1 with 5; equal loads, so that any swap is allowed."""
    experts_TK = np.array([[0, 4], [1, 5], [2, 6], [3, 7]] * 5 + [[0, 4]])
    load_E = np.full(8, 5)
    start_E = np.array([0, 0, 1, 1, 1, 1, 0, 0])
    found_E = descended(experts_TK, load_E, start_E, 2, 20)
    assert pairs(experts_TK, found_E) == len(experts_TK)
    assert np.bincount(found_E).tolist() == [4, 4]
    load_E[0] = 9
    tight = np.bincount(start_E, load_E).max()
    found_E = descended(experts_TK, load_E, start_E, 2, tight)
    assert np.bincount(found_E, load_E).max() <= tight


def test_groups_that_tokens_select_together_come_together(rng):
    group_T = rng.integers(0, 4, 400)
    experts_TLK = np.stack([rng.permutation(4)[:2] + 4 * group for group in group_T])[:, None].astype(np.int16)
    experts_TLK = rng.permutation(16)[experts_TLK].astype(np.int16)
    load_BLE = np.bincount(experts_TLK.ravel(), minlength=16)[None, None]
    known, shape = LoadProfile(load_BLE, experts_TLK), shape_for(16, 4, 2)
    fan_out = {
        method: pairs(experts_TLK[:, 0], devices_of(planned(method, known, shape), 16, shape)[0])
        for method in ("lpt", "co-activation=0.3")
    }
    assert fan_out["co-activation=0.3"] == 400 < fan_out["lpt"]
    node_E = devices_of(planned("node-co-activation=0.3", known, shape), 16, shape)[0] // 2
    assert pairs(experts_TLK[:, 0], node_E) == 400


@pytest.mark.parametrize("method", ["co-activation", "node-co-activation"])
def test_counts_are_not_enough(method):
    with pytest.raises(InputError, match="counts do not tell which experts a token selects together"):
        planned(method, LoadProfile(np.ones((1, 1, 4), np.int64)), shape_for(4, 2))
