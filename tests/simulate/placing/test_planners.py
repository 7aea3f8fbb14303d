"""The contract of every planner, found through the table of names, and each planner by hand or by brute force."""

import itertools

import numpy as np
import plain_planners
import pytest

from moe_replay.simulate.placing.cluster_shape import ClusterShape, shape_for
from moe_replay.simulate.placing.load_bound import load_bound
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import PLANNERS, REPLICATING, planned
from moe_replay.simulate.placing.planners.smartmoe import devices_of, replanned
from moe_replay.simulate.placing.scores import max_over_mean, useless_replicas
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.even_split import even_loads, replicas_LE

# Selections of Mixtral's 8 experts in three layers (published counts), and the heaviest device's load on 2 and 4
# devices: the least possible, longest first, and the bound.
MIXTRAL_LE = [
    [55713, 52019, 52619, 50522, 44401, 66285, 44770, 51463],
    [51886, 50083, 56626, 44230, 52075, 54595, 49243, 59054],
    [61212, 52639, 40083, 25549, 60053, 61162, 60951, 56143],
]
HEAVIEST = {
    2: [(209717, 213227, 208896), (209153, 210547, 208896), (208918, 214835, 208896)],
    4: [(110686, 110686, 110686), (105869, 105869, 104448), (116196, 116196, 116196)],
}


def counted(load_LE):
    """What is known from counts of one batch."""
    return LoadProfile(np.array(load_LE, np.int64)[None])


def heaviest(known, expert_LP, devices):
    return even_loads(known.load_BLE, expert_LP, devices).sum(0).max(1)


@pytest.mark.parametrize("method", PLANNERS)
@pytest.mark.parametrize(("devices", "nodes"), [(2, 1), (4, 2), (8, 2)])
def test_every_planner_keeps_slots_and_loses_no_expert(profile, method, devices, nodes):
    known, before = profile(), profile().load_BLE
    shape = shape_for(known.experts, devices, nodes)
    made = planned(method, known, shape)  # refuses lost experts and other shapes
    assert made.shape == (known.layers, shape.slots)
    assert (replicas_LE(made, known.experts) == 1).all()
    assert not useless_replicas(made, devices).any()
    assert (planned(method, profile(), shape) == made).all()
    assert (known.load_BLE == before).all()


@pytest.mark.parametrize("method", [name for name in PLANNERS if name not in REPLICATING])
def test_slots_that_are_left_over_stay_empty(profile, method):
    known, shape = profile(), shape_for(8, 3)
    made = planned(method, known, shape)
    assert made.shape == (known.layers, 9)
    assert ((made == -1).sum(1) == 1).all()


@pytest.mark.parametrize("method", REPLICATING)
def test_planners_of_replicas_fill_every_slot(profile, method):
    made = planned(method, profile(), shape_for(8, 3))
    assert (replicas_LE(made, 8).sum(1) == 9).all()


@pytest.mark.parametrize("method", [name for name in PLANNERS if name not in ("contiguous", "round-robin", "smartmoe")])
def test_renamed_experts_are_placed_alike_where_nothing_ties(rng, profile, method):
    """But for the order of slots; of the exact planner's many optima the load is the same."""
    known, order = profile(tokens=211, batches=7), rng.permutation(8)
    renamed = LoadProfile(known.load_BLE[:, :, np.argsort(order)], order[known.experts_TLK].astype(np.int16))
    assert all(len({*row}) == 8 for row in known.load_LE.tolist()), "loads tie"
    shape = shape_for(8, 4, 2)
    plain, other = planned(method, known, shape), planned(method, renamed, shape)
    if method == "exact":
        assert (heaviest(known, plain, 4) == heaviest(renamed, other, 4)).all()
    else:
        assert [companions(order[row], 4) for row in plain] == [companions(row, 4) for row in other]


def companions(expert_P, devices):
    return {frozenset(each) for each in np.reshape(expert_P, (devices, -1)).tolist()}


def test_no_planner_beats_the_exact_one_and_none_the_bound(rng):
    """Hundreds of tiny layers, all their placements tried."""
    shapes = [(4, 2), (5, 2), (6, 3), (6, 2), (5, 3)]
    for experts, devices in shapes:
        load_LE = (rng.exponential(1, (60, experts)) ** 2 * 30).astype(np.int64) + 1
        known, shape = counted(load_LE), shape_for(experts, devices)
        least_L = brute_force(load_LE, shape)
        bound_L = load_bound(load_LE, shape)
        assert (bound_L <= least_L).all()
        for method in ("contiguous", "round-robin", "lpt", "greedy", "smartmoe", "anti-correlation"):
            assert (heaviest(known, planned(method, known, shape), devices) >= least_L).all(), method
        few = LoadProfile(known.load_BLE[:, :12])
        assert (heaviest(few, planned("exact", few, shape), devices) == least_L[:12]).all()


def brute_force(load_LE, shape):
    experts = load_LE.shape[1]
    fitting = [
        each for each in itertools.product(range(shape.devices), repeat=experts)
        if np.bincount(each).max() <= shape.slots_per_device
    ]  # fmt: skip
    on_device = np.eye(shape.devices, dtype=np.int64)[np.array(fitting)]  # [placements, experts, devices]
    return np.einsum("le,ped->lpd", load_LE, on_device).max(2).min(1)


@pytest.mark.parametrize("devices", [2, 4])
def test_published_loads_of_mixtral(devices):
    known, shape = counted(MIXTRAL_LE), shape_for(8, devices)
    exact, lpt = (heaviest(known, planned(method, known, shape), devices) for method in ("exact", "lpt"))
    found = np.stack([exact, lpt, load_bound(known.load_LE, shape)], 1)
    assert found.tolist() == [list(map(float, each)) for each in HEAVIEST[devices]]


def test_the_example_of_eplbs_own_page():
    weight_LE = [
        [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86], [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
    ]  # fmt: skip
    assert planned("eplb=4", counted(weight_LE), ClusterShape(8, 2, 2)).tolist() == [
        [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1], [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
    ]  # fmt: skip


@pytest.mark.parametrize(("devices", "nodes", "groups", "slots"), [
    (4, 1, 1, 16), (4, 2, 4, 24), (8, 2, 8, 16), (8, 4, 2, 32), (16, 2, 2, 16), (2, 2, 4, 20),
])  # fmt: skip
def test_eplb_equals_plain_loops(rng, devices, nodes, groups, slots):
    load_LE = (rng.exponential(1, (40, 16)) ** 2 * 40).astype(np.int64)  # small numbers: many ties
    made = planned(f"eplb={groups}", counted(load_LE), ClusterShape(devices, nodes, slots // devices))
    assert made.tolist() == [plain_planners.eplb(load_E, slots, groups, nodes, devices) for load_E in load_LE]


def test_lpt_equals_plain_loops_and_hand(rng):
    load_LE = (rng.exponential(1, (40, 12)) * 10).astype(np.int64)
    made = planned("lpt", counted(load_LE), shape_for(12, 4))
    assert made.tolist() == [plain_planners.lpt(load_E, 4) for load_E in load_LE]
    known = counted([[5, 9, 1, 4, 4, 5]])  # 9 | 5 5, 4 to the 9, 4 fills the other; 1 where a slot is free
    made = planned("lpt", known, shape_for(6, 2))
    assert made.tolist() == [[1, 2, 3, 0, 4, 5]]
    assert max_over_mean(even_loads(known.load_BLE, made, 2)).tolist() == [1.0]


def test_anti_correlation_keeps_apart_what_is_busy_together():
    """Experts 0 and 1 are busy in the same batches, 2 and 3 in the others; mean shares nearly equal."""
    load_BLE = np.array([[[41, 40, 10, 9]], [[10, 10, 40, 40]]] * 3)
    known = LoadProfile(load_BLE)
    for method in ("anti-correlation", "anti-correlation=0.02"):
        device_E = devices_of(planned(method, known, shape_for(4, 2)), 4, shape_for(4, 2))[0]
        assert device_E[0] != device_E[1]
        assert device_E[2] != device_E[3]
    flat = LoadProfile(np.array([[[3, 3, 3, 3]]] * 4))  # no expert ever changes: no correlation, no warning
    assert planned("anti-correlation", flat, shape_for(4, 2)).tolist() == [[0, 2, 1, 3]]


def test_smartmoe_stays_on_ties_and_adopts_for_a_gain():
    load_LE = np.array([[4, 4, 2, 2]])
    former_LE, shape = np.array([[1, 0, 0, 1]]), ClusterShape(2, 1, 2)
    device_LE, adopted_L = replanned(load_LE, former_LE, shape)  # all ties: everyone stays
    assert (device_LE == former_LE).all()
    assert not adopted_L.any()
    former_LE = np.array([[0, 0, 1, 1]])  # 8 and 4 against 6 and 6
    assert replanned(load_LE, former_LE, shape, 1.33)[1].tolist() == [True]
    assert replanned(load_LE, former_LE, shape, 1.34)[1].tolist() == [False]


def test_unknown_names_and_numbers_are_refused(profile):
    known = profile()
    with pytest.raises(InputError, match="unknown planner 'lptt'; known: anti-correlation"):
        planned("lptt", known, shape_for(8, 2))
    with pytest.raises(InputError, match="'lpt' takes no number"):
        planned("lpt=2", known, shape_for(8, 2))
    for number in ("x", "", "nan", "inf", "-1"):
        with pytest.raises(InputError, match="allowed: eplb=NUMBER, a number >= 0"):
            planned(f"eplb={number}", known, shape_for(8, 2))
    with pytest.raises(InputError, match="3 groups of 8 experts, allowed: groups of equal size"):
        planned("eplb=3", known, shape_for(8, 2))
    with pytest.raises(InputError, match="exact: 64 experts on 8 devices"):
        planned("exact", counted(np.ones((1, 64))), shape_for(64, 8))


def test_a_users_own_planner_and_what_is_none(profile, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_planners.py").write_text(
        "import numpy as np\n"
        "def backwards(known, shape):\n"
        "    return np.tile(np.arange(known.experts)[::-1], (known.layers, 1))\n"
        "def losing(known, shape):\n"
        "    return np.zeros((known.layers, shape.slots), int)\n"
        "def wide(known, shape):\n"
        "    return np.zeros((known.layers, 1), int)\n"
    )
    known, shape = profile(), shape_for(8, 2)
    assert planned("my_planners:backwards", known, shape)[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
    with pytest.raises(InputError, match="leaves expert 1 of layer 0 without a slot"):
        planned("my_planners:losing", known, shape)
    with pytest.raises(InputError, match=r"gives int64 of shape \(3, 1\), allowed: integers of shape \(3, 8\)"):
        planned("my_planners:wide", known, shape)


@pytest.mark.parametrize(("sizes", "said"), [
    ((8, 9), "devices is 9, allowed: at most one for each of the 8"),
    ((8, 4, 3), "4 devices in 3 nodes"), ((8, 2, 1, 9), "9 redundant experts on 2 devices, allowed at most 8"),
    ((8, 2, 1, -1), "redundant experts are -1"), ((8, 0), "devices is 0"),
])  # fmt: skip
def test_clusters_that_cannot_be_are_refused(sizes, said):
    with pytest.raises(InputError, match=said):
        shape_for(*sizes)
