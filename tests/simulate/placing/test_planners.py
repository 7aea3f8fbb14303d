"""The contract of every planner, found through the table of names."""

import numpy as np
import pytest

from moe_replay.simulate.placing.cluster_shape import shape_for
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import PLANNERS, planned
from moe_replay.simulate.placing.scores import even_loads, max_over_mean, replicas_LE
from moe_replay.traces.errors import InputError


def profile(rng, batches=6, layers=3, experts=8, tokens=40):
    """Tokens of two experts each, some of them popular."""
    weight_E = 1 / np.arange(1, experts + 1)
    chosen = [
        rng.choice(experts, 2, replace=False, p=weight_E / weight_E.sum()) for _ in range(batches * tokens * layers)
    ]
    experts_TLK = np.array(chosen, np.int16).reshape(batches * tokens, layers, 2)
    load_BLE = np.stack([
        [np.bincount(part[:, layer].ravel(), minlength=experts) for layer in range(layers)]
        for part in np.split(experts_TLK, batches)
    ])  # fmt: skip
    return LoadProfile(load_BLE.astype(np.int64), experts_TLK)


@pytest.mark.parametrize("method", PLANNERS)
@pytest.mark.parametrize(("devices", "nodes"), [(2, 1), (4, 2), (3, 1), (8, 2)])
def test_every_planner_keeps_slots_and_loses_no_expert(rng, method, devices, nodes):
    known = profile(rng)
    shape = shape_for(known.experts, devices, nodes)
    made = planned(method, known, shape)  # refuses lost experts and other shapes
    assert made.shape == (known.layers, shape.slots)
    assert (replicas_LE(made, known.experts) == 1).all()
    assert (planned(method, known, shape) == made).all()


def test_unknown_names_and_numbers_are_refused(rng):
    known = profile(rng)
    with pytest.raises(InputError, match="unknown planner 'lptt'; known: contiguous"):
        planned("lptt", known, shape_for(8, 2))
    with pytest.raises(InputError, match="'lpt' takes no number"):
        planned("lpt=2", known, shape_for(8, 2))


def test_lpt_by_hand():
    known = LoadProfile(np.array([[[5, 9, 1, 4, 4, 5]]]))
    made = planned("lpt", known, shape_for(6, 2))
    assert made.tolist() == [
        [1, 2, 3, 0, 4, 5]
    ]  # 9 | 5 5, then 4 -> 9+4, 4 -> 10+4 (ties: lower), 1 where a slot is free
    assert max_over_mean(even_loads(known.load_BLE, made, 2)).tolist() == [1.0]
