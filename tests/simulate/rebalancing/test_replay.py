"""Placements over time: hand-worked, equal to a plain form on random worlds, and published right values."""

import itertools

import numpy as np
import pytest
from plain_rebalancing import least_copies, plain_cheapest, plain_lpt, plain_replay

from moe_replay.simulate.placing.cluster_shape import ClusterShape, shape_for
from moe_replay.simulate.rebalancing.clairvoyant import foreknown
from moe_replay.simulate.rebalancing.device_loads import bound, device_loads, over_mean
from moe_replay.simulate.rebalancing.load_points import LoadPoints
from moe_replay.simulate.rebalancing.migration import migration, renamed
from moe_replay.simulate.rebalancing.replay import RebalanceRule, replay
from moe_replay.traces.errors import InputError


def points_of(load_SLE):
    load_SLE = np.asarray(load_SLE, np.int64)
    points, layers, _ = load_SLE.shape
    return LoadPoints(
        name="toy", phase="all", load_SLE=load_SLE, number_S=np.arange(points), layer_ids=tuple(range(layers))
    )


def drawn_points(rng, points=7, layers=3, experts=6, most=12):
    return points_of(rng.integers(1, most, size=(points, layers, experts)))


def test_four_experts_on_two_devices_by_hand():
    """Contiguous holds 8 of 10 on one device; the plan from that point halves them, and the next point reverses it."""
    points = points_of([[[4, 4, 1, 1]], [[4, 4, 1, 1]], [[1, 4, 1, 4]], [[1, 4, 1, 4]]])
    made = replay(points, ClusterShape(2, 1, 2), RebalanceRule("lpt", interval=1, threshold=1.0))
    assert made.expert_SLP[:, 0].tolist() == [[0, 1, 2, 3], [0, 2, 1, 3], [0, 2, 1, 3], [0, 1, 2, 3]]
    np.testing.assert_allclose(made.over_mean_SL[:, 0], [1.6, 1.0, 1.6, 1.0])
    assert made.adopted_SL[:, 0].tolist() == [False, True, False, True]
    assert made.copies_SL[:, 0].tolist() == [0, 2, 0, 2]
    assert made.most_SL[:, 0].tolist() == [0, 1, 0, 1]  # one expert in and one out of each device


def test_the_window_and_the_first_point_by_hand():
    """Planned from the first point, which is not scored; then every 2 points from the 2 before."""
    points = points_of([[[9, 1, 5, 5]], [[9, 1, 5, 5]], [[1, 9, 5, 5]], [[1, 9, 9, 1]], [[1, 1, 1, 1]]])
    rule = RebalanceRule("lpt", interval=2, window=2, start="first-point")
    made = replay(points, ClusterShape(2, 1, 2), rule)
    assert made.expert_SLP[:, 0].tolist() == [[0, 1, 2, 3]] * 2 + [[0, 2, 1, 3]] * 2
    assert made.planned_SL[:, 0].tolist() == [False, False, True, False]
    np.testing.assert_allclose(made.over_mean_SL[:, 0], [1, 1, 1, 1])
    assert made.copies_SL[:, 0].tolist() == [0, 0, 2, 0]


@pytest.mark.parametrize("staying", [False, True], ids=["lpt", "smartmoe"])
def test_random_worlds_equal_the_plain_form(staying):
    rng = np.random.default_rng(3)
    for _ in range(60):
        devices, window = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        interval, threshold = int(rng.integers(1, 4)), float(rng.choice([0, 1, 1.1, 1.5]))
        points = drawn_points(rng, experts=int(rng.integers(devices, 10)), most=int(rng.choice([3, 40])))
        rule = RebalanceRule("smartmoe" if staying else "lpt", interval, window, threshold)
        made = replay(points, shape_for(points.load_SLE.shape[2], devices), rule)
        for layer in range(3):
            plain = plain_replay(points.load_SLE[:, layer].tolist(), devices, interval, threshold, staying, window)
            np.testing.assert_allclose(made.over_mean_SL[:, layer], plain[0])
            assert (made.adopted_SL[:, layer].sum(), made.copies_SL[:, layer].sum()) == plain[1:]


def drawn_placements(rng, shape, experts):
    """Two placements of some layers with replicas, also of two on one device, and empty slots."""
    drawn = []
    for _ in range(2):
        layer_LP = [rng.permutation(np.resize(np.arange(experts), shape.slots)) for _ in range(3)]
        drawn.append(np.array(layer_LP, np.int16))
        drawn[-1][:, -1] = np.where(drawn[-1][:, -1] < shape.slots - experts, -1, drawn[-1][:, -1])
    return drawn


def sets_of(expert_P, devices):
    return [{*group.tolist()} - {-1} for group in expert_P.reshape(devices, -1)]


def names_of(shape):
    """All ways to rename devices that keep the devices of a node together."""
    inside = list(itertools.permutations(range(shape.devices_per_node)))
    for nodes in itertools.permutations(range(shape.nodes)):
        for within in itertools.product(inside, repeat=shape.nodes):
            yield [
                node * shape.devices_per_node + at for node, order in zip(nodes, within, strict=True) for at in order
            ]


@pytest.mark.parametrize("shape", [ClusterShape(4, 1, 3), ClusterShape(4, 2, 3), ClusterShape(6, 3, 2)])
def test_renaming_makes_the_fewest_copies_there_can_be(shape):
    rng = np.random.default_rng(5)
    names = list(names_of(shape))
    for _ in range(15):
        experts = int(rng.integers(shape.slots // 2, shape.slots + 1))
        before_LP, after_LP = drawn_placements(rng, shape, experts)
        new_LP = renamed(before_LP, after_LP, shape, experts)
        made = migration(before_LP, new_LP, shape.devices, experts)
        for layer in range(3):
            before, after = (sets_of(each[layer], shape.devices) for each in (before_LP, after_LP))
            assert made.copies_L[layer] == least_copies(before, after, names)
            assert sorted(map(sorted, sets_of(new_LP[layer], shape.devices))) == sorted(map(sorted, after))


def test_renaming_changes_no_balance_and_never_moves_more():
    rng = np.random.default_rng(6)
    for _ in range(10):
        points = drawn_points(rng, experts=8)
        plain, fewer = (
            replay(points, shape_for(8, 4), RebalanceRule("lpt", 1, threshold=0, relabel=relabel))
            for relabel in (False, True)
        )
        np.testing.assert_allclose(plain.over_mean_SL, fewer.over_mean_SL)
        assert fewer.copies_SL.sum() <= plain.copies_SL.sum()


def test_the_fullest_port_of_a_copied_replica():
    """Expert 0 goes to device 2 from both of its holders, half from each; expert 3 goes to device 0 from device 2."""
    before, after = np.array([[0, 1, 0, 2, 3, 4]], np.int16), np.array([[3, 1, 0, 2, 0, 4]], np.int16)
    made = migration(before, after, 3, 5)
    assert (made.copies_L.tolist(), made.most_L.tolist()) == ([2], [1.0])
    all_to_one = migration(np.array([[0, 1, 2, 3]], np.int16), np.array([[2, 3, 0, 1]], np.int16), 2, 4)
    assert (all_to_one.copies_L.tolist(), all_to_one.most_L.tolist()) == ([4], [2.0])


def test_the_clairvoyant_is_the_least_of_all_paths():
    rng = np.random.default_rng(7)
    for _ in range(25):
        points = drawn_points(rng, points=4, layers=2, experts=5, most=9)
        shape, move_cost = shape_for(5, 2), float(rng.choice([0, 0.02, 0.3]))
        pools = [
            [[expert * 2 // 5 for expert in range(5)]]
            + [plain_lpt(loads, 2, 3) for loads in points.load_SLE[:, layer].tolist()]
            for layer in range(2)
        ]  # fmt: skip
        expert_QLP = np.stack([np.stack([slots_of(pool[plan], shape) for pool in pools]) for plan in range(5)])
        (paths,) = foreknown(points.load_SLE, expert_QLP, shape, [move_cost])
        for layer, path in enumerate(paths):
            loads = points.load_SLE[:, layer].tolist()
            assert path.cost == pytest.approx(plain_cheapest(loads, pools[layer], 2, move_cost))
            moves = path.copies + path.first_copies
            assert path.cost == pytest.approx(path.over_mean_S.sum() + move_cost * moves)


def slots_of(device_E, shape):
    """Return the slots of a layer whose experts are on these devices."""
    expert_P = np.full((shape.devices, shape.slots_per_device), -1, np.int16)
    for device in range(shape.devices):
        held = np.flatnonzero(np.array(device_E) == device)
        expert_P[device, : len(held)] = held
    return expert_P.ravel()


def test_no_placement_is_below_the_bound():
    rng = np.random.default_rng(8)
    for redundant in (0, 1, 4):
        points, shape = drawn_points(rng, experts=7, most=60), shape_for(7, 3, 1, redundant)
        bound_SL = bound(points.load_SLE, shape, redundant)
        for method in ("lpt", "eplb") if redundant == 0 else ("eplb",):
            made = replay(points, shape, RebalanceRule(method, 1))
            assert (made.over_mean_SL >= bound_SL - 1e-12).all()


def test_balanced_layers_and_silent_ones_are_not_planned():
    points = points_of([[[4, 4, 1, 1], [2, 2, 2, 2], [0, 0, 0, 0]]] * 3)
    made = replay(points, ClusterShape(2, 1, 2), RebalanceRule("lpt", 1, threshold=0, balanced=1.05))
    assert made.planned_SL.tolist() == [[False] * 3, [True, False, False], [False] * 3]
    assert made.adopted_SL.sum() == 1
    assert np.isnan(made.over_mean_SL[:, 2]).all()


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match="unknown start 'last'; known: contiguous"):
        RebalanceRule(start="last")
    with pytest.raises(InputError, match="window is 0, allowed >= 1"):
        RebalanceRule(window=0)
    with pytest.raises(InputError, match="1 points, allowed: at least 2"):
        replay(points_of([[[1, 2]]]), ClusterShape(2), RebalanceRule(start="first-point"))


def test_a_hot_expert_sets_the_bound_and_the_plan_reaches_it():
    """Eight experts on four devices, the heaviest of them 30 % of the load: the lightest has to be beside it."""
    loads = np.array([30, 20, 14, 12, 10, 6, 5, 3])
    (bound_L,) = bound(loads[None, None], ClusterShape(4, 1, 2))
    np.testing.assert_allclose(bound_L, [4 * 0.33])
    made = replay(points_of([[loads]] * 2), ClusterShape(4, 1, 2), RebalanceRule("lpt", 1, threshold=0))
    np.testing.assert_allclose(made.over_mean_SL[:, 0], [4 * 0.5, 4 * 0.33])
    load_LD = device_loads(loads[None], made.expert_SLP[1], 4)
    np.testing.assert_allclose(load_LD, [[33, 25, 20, 22]])
    assert over_mean(load_LD)[0] == pytest.approx(1.32)
