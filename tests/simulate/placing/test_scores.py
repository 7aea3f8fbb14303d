"""Splits, slots taken, traffic and scores by hand and by plain loops."""

import itertools

import numpy as np
import pytest

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.part_scores import scores
from moe_replay.simulate.placing.recorded_batches import Batches
from moe_replay.simulate.placing.scores import average_max_load, max_load, max_over_mean, useless_replicas
from moe_replay.simulate.placing.slots_taken import slots_taken
from moe_replay.simulate.placing.splits import best_loads, round_robin_loads
from moe_replay.simulate.placing.traffic import traffic
from moe_replay.simulate.placing.useless_repair import repaired
from moe_replay.simulate.policies.cluster.replica_split import ReplicaSplit
from moe_replay.traces.errors import InputError
from moe_replay.traces.placements.even_split import even_loads

LINKS = {
    "links": "", "inside_latency_ns": 0, "inside_bytes_per_s": 1e9, "network_latency_ns": 0, "network_bytes_per_s": 1e9,
    "dispatch_bytes": 1, "combine_bytes": 1,
}  # fmt: skip


def test_balance_by_hand():
    """Two batches, two devices: 6 and 2, then 2 and 2."""
    load_BLD = np.array([[[6.0, 2.0]], [[2.0, 2.0]]])
    assert max_over_mean(load_BLD).tolist() == [8 / 6]
    assert max_load(load_BLD).tolist() == [0.75]
    assert average_max_load(load_BLD).tolist() == [0.625]
    load_BLD[1] = 0  # a batch without selections in the layer says nothing
    assert average_max_load(load_BLD).tolist() == [0.75]
    assert np.isnan(max_load(load_BLD * 0)).all()
    assert np.isnan(max_over_mean(load_BLD * 0)).all()


def test_splits_by_hand():
    """Expert 0 has 7 and a slot on each device, 1 and 2 have 1 and 3: 4.5 and 6.5 evenly, 5.5 each at best."""
    load_BLE, expert_LP = np.array([[[7, 1, 3]]]), np.array([[0, 1, 0, 2]], np.int16)
    assert even_loads(load_BLE, expert_LP, 2).tolist() == [[[4.5, 6.5]]]
    assert round_robin_loads(load_BLE, expert_LP, 2).tolist() == [[[5, 6]]]
    assert best_loads(load_BLE, expert_LP, ClusterShape(2, 1, 2)).max() == pytest.approx(5.5)


def test_the_best_split_is_the_fullest_group_of_devices(rng):
    """By max-flow and min-cut: of all sets of devices, what has nowhere else to go over the devices."""
    for _ in range(60):
        shape = ClusterShape(3, 1, 3)
        expert_P = np.concatenate([rng.permutation(6)[:3] for _ in range(3)])
        missing = np.setdiff1d(np.arange(6), expert_P)
        load_E = rng.integers(0, 50, 6)
        load_E[missing] = 0
        held = [set(expert_P[3 * d : 3 * d + 3].tolist()) for d in range(3)]
        least = max(
            sum(load_E[e] for e in range(6) if all(e not in held[d] for d in range(3) if d not in group)) / len(group)
            for size in (1, 2, 3) for group in itertools.combinations(range(3), size)
        )  # fmt: skip
        assert best_loads(load_E[None, None], expert_P[None], shape).max() == pytest.approx(least)


def test_slots_by_hand():
    """Two nodes of two devices; expert 0 has slots 0, 3 and 4, expert 1 slot 1, 2 slot 5, 3 slots 2 and 6."""
    shape, expert_P = ClusterShape(4, 2, 2), np.array([0, 1, 3, 0, 0, 2, 3, -1])
    experts_TK, batch_T = np.array([[0, 1], [0, 3], [0, -1], [3, 0]]), np.array([0, 0, 0, 1])
    home_T = np.array([3, 1, 2, 0])
    found = slots_taken(experts_TK, batch_T, home_T, expert_P, shape, "round-robin")
    assert found.tolist() == [[0, 1], [3, 2], [4, -1], [2, 0]]  # a new batch begins anew
    found = slots_taken(experts_TK, batch_T, home_T, expert_P, shape, "nearest")
    assert found.tolist() == [[4, 1], [3, 2], [4, -1], [2, 0]]


def test_round_robin_of_counts_and_of_tokens_are_one(rng):
    shape = ClusterShape(4, 2, 3)
    expert_P = np.array([0, 1, 2, 0, 3, 4, 5, 1, 0, 2, 3, -1])
    experts_TK = np.stack([rng.permutation(6)[:2] for _ in range(100)])
    batch_T, home_T = np.arange(100) // 25, rng.integers(0, 4, 100)
    load_BLE = np.stack([np.bincount(experts_TK[batch_T == b].ravel(), minlength=6) for b in range(4)])[:, None]
    slot_TK = slots_taken(experts_TK, batch_T, home_T, expert_P, shape, "round-robin")
    counted = np.stack([np.bincount(slot_TK[batch_T == b].ravel() // 3, minlength=4) for b in range(4)])
    assert (round_robin_loads(load_BLE, expert_P[None], 4)[:, 0] == counted).all()


@pytest.mark.parametrize("rule", ["nearest", "round-robin"])
def test_slots_are_those_that_a_run_takes(rng, rule):
    shape, expert_P = ClusterShape(4, 2, 3), np.array([0, 1, 2, 0, 3, 4, 5, 1, 0, 2, 3, 4])
    experts_TK = np.stack([rng.permutation(6)[:2] for _ in range(90)])
    batch_T, home_T = np.arange(90) // 30, rng.integers(0, 4, 90)
    found = slots_taken(experts_TK, batch_T, home_T, expert_P, shape, rule)
    split = ReplicaSplit(expert_P[None], 4, ClusterConfig(nodes=2, split=rule, **LINKS))
    for token, row in enumerate(experts_TK.tolist()):
        if token % 30 == 0:
            split.begin_step()
        assert found[token].tolist() == [split.slot(0, expert, int(home_T[token])) for expert in row]


def test_traffic_by_hand():
    """Three tokens, two nodes of two devices; homes 0, 2, 1."""
    device_TK, home_T = np.array([[0, 0, 3], [2, 3, -1], [0, 2, 3]]), np.array([0, 2, 1])
    found = traffic(device_TK, home_T, ClusterShape(4, 2, 1), 3)
    assert (found.fan_out, found.remote_selections) == (7 / 3, 5 / 3)
    assert (found.device_copies, found.node_copies) == (5 / 3, 2 / 3)


def test_what_cannot_be_said_is_empty(profile):
    known = profile()
    shape, replicated = ClusterShape(2, 1, 5), np.array([[0, 1, 2, 3, 4, 5, 6, 7, 0, 1]] * 3, np.int16)
    tokens = Batches(known, np.ones(6, bool), np.arange(240) // 40, np.arange(240) // 10)
    assert scores(tokens, replicated, shape, "even")["fan_out"] is None
    assert scores(tokens, replicated, shape, "nearest")["fan_out"] >= 1
    counts = Batches(LoadProfile(known.load_BLE), np.zeros(6, bool))
    found = scores(counts, replicated, shape, "round-robin")
    assert found["fan_out"] is None
    assert found["max_load"] is None  # no batch is whole
    assert found["device_max_over_mean"] >= 1
    with pytest.raises(InputError, match="split 'nearest': counts tell no homes"):
        scores(counts, replicated, shape, "nearest")
    with pytest.raises(InputError, match="unknown split 'odd'"):
        scores(tokens, replicated, shape, "odd")


def test_useless_replicas_are_counted_and_packed_anew():
    expert_LP = np.array([[0, 0, 1, 2], [0, 1, 0, 2]], np.int16)
    load_LE = np.array([[9, 3, 2], [9, 3, 2]])
    assert useless_replicas(expert_LP, 2).tolist() == [1, 0]
    made = repaired(expert_LP, load_LE, ClusterShape(2, 1, 2))
    assert not useless_replicas(made, 2).any()
    assert sorted(made[0].tolist()) == [0, 0, 1, 2]
    assert (made[1] == expert_LP[1]).all()
    nodes = np.array([[0, 0, 1, 1, 2, 3, 2, 3]], np.int16)  # experts 0 and 1 in one node, 2 and 3 in the other
    made = repaired(nodes, np.array([[1, 2, 3, 4]]), ClusterShape(4, 2, 2))
    assert set(made[0, :4].tolist()) == {0, 1}
    assert (made[0, 4:] == nodes[0, 4:]).all()
    with pytest.raises(InputError, match="6 slots for 2 experts on 2 devices of a node, allowed at most 4"):
        repaired(np.array([[0, 0, 1, 1, 1, 0]], np.int16), np.array([[1, 2]]), ClusterShape(2, 1, 3))
