"""Placements balanced by load: never a replica beside itself, never worse than experts in order."""

import itertools
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from tiny_traces import random_trace

from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.exporters.exporter_names import export
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.placements.balanced_placement import balance_text, balanced_placement, device_loads, replicas
from moe_replay.traces.placements.expert_placement import ExpertPlacement

WORLDS = 400


def random_loads(rng):
    """(load_E, devices, slots): even, skewed, sparse and tied loads in every shape that has a placement."""
    devices, room = int(rng.integers(1, 8)), int(rng.integers(1, 8))
    experts = int(rng.integers(room, devices * room + 1))
    drawn = (
        rng.integers(0, 4, experts),
        rng.integers(0, 1000, experts),
        (1000 * rng.dirichlet(np.full(experts, 0.2))).astype(np.int64),
        (rng.random(experts) < 0.2) * rng.integers(1, 50, experts),
    )
    return drawn[rng.integers(4)], devices, devices * room


@pytest.mark.parametrize("seed", range(4))
def test_random_loads_are_placed_whole_and_even(seed):
    rng = np.random.default_rng(seed)
    for _ in range(WORLDS // 4):
        load_E, devices, slots = random_loads(rng)
        made = balanced_placement("m", (0,), load_E[None], devices, slots)
        held_DX = made.expert_LP[0].reshape(devices, -1)
        assert all(len({*held_X}) == slots // devices for held_X in held_DX.tolist())
        count_E = made.replicas_LE[0]
        assert (count_E.min() >= 1, count_E.max() <= devices, count_E.sum()) == (True, True, slots)
        more_EE = load_E[:, None] > load_E[None]
        assert (count_E[:, None] >= count_E[None])[more_EE].all()
        load_D = device_loads(load_E[None], made)[0]
        assert load_D.sum() == pytest.approx(load_E.sum())
        if slots == len(load_E):
            assert load_D.max() <= load_E.reshape(devices, -1).sum(1).max()
        again = balanced_placement("m", (0,), load_E[None], devices, slots)
        np.testing.assert_array_equal(again.expert_LP, made.expert_LP)


def test_small_worlds_come_close_to_the_best_of_all_placements():
    """Four experts on two devices without replicas: brute force over the three ways to pair them."""
    rng = np.random.default_rng(9)
    for _ in range(100):
        load_E = rng.integers(0, 30, 4)
        best = min(
            max(load_E[[*two]].sum(), load_E.sum() - load_E[[*two]].sum())
            for two in itertools.combinations(range(4), 2)
        )
        assert device_loads(load_E[None], balanced_placement("m", (0,), load_E[None], 2)).max() == best


def test_the_hottest_experts_get_the_replicas():
    assert replicas(np.array([10, 80, 10, 40]), 4, 8).tolist() == [1, 4, 1, 2]
    assert replicas(np.array([0, 0, 0]), 2, 5).tolist() == [2, 2, 1]
    made = balanced_placement("m", (2, 5), np.array([[60, 10, 10], [10, 10, 60]]), 2, 4)
    assert made.replicas_LE.tolist() == [[2, 1, 1], [1, 1, 2]]
    assert device_loads(np.array([[60, 10, 10], [10, 10, 60]]), made).tolist() == [[40, 40], [40, 40]]
    said = balance_text(np.array([[60, 10, 10], [10, 10, 60]]), made)
    assert said.startswith("4 slots on 2 devices, 1 of them replicas; the fullest device has 1.00 times")


def test_the_last_replicas_find_room_though_the_free_device_holds_them():
    """Greedy alone gets stuck: when only a device that holds the expert has room, something else moves there."""
    load_E = np.array([9, 9, 9, 0, 0])
    made = balanced_placement("m", (0,), load_E[None], 3, 9)
    assert all(len({*held_X}) == 3 for held_X in made.expert_LP[0].reshape(3, 3).tolist())


@pytest.mark.parametrize(("devices", "slots"), [(2, 10), (3, 8), (4, 7), (16, None)])
def test_slots_that_cannot_be_filled_are_refused(devices, slots):
    with pytest.raises(InputError, match=rf"slots on {devices} devices: allowed equally many on each, at least one"):
        balanced_placement("m", (0,), np.arange(4)[None], devices, slots)


def test_a_replica_beside_itself_is_refused():
    message = "layer 3, device 1 holds expert 1 twice, allowed: replicas on different devices (1 such replicas)"
    expert_LP = np.array([[0, 1, 2, 0], [0, 2, 1, 1]], np.int16)
    with pytest.raises(InputError, match=re.escape(message)):
        ExpertPlacement(model="m", experts=3, devices=2, layer_ids=(1, 3), expert_LP=expert_LP)


def test_every_exporter_writes_the_same_balanced_placement(rng, tmp_path):
    trace = random_trace(rng, tokens=60, layers=2, slots=2, experts=8)
    made = balanced_placement("m", (1, 3), Subject(trace).load_LE, 4, 12)
    subject = Subject(trace, made)
    export("eplb", subject, tmp_path / "p.npz")
    export("sglang", subject, tmp_path / "p.json")
    export("tensorrt-llm", subject, tmp_path / "p.yaml")
    tables = np.load(tmp_path / "p.npz")
    np.testing.assert_array_equal(tables["phy2log"], made.expert_LP)
    held = json.loads((tmp_path / "p.json").read_text())["physical_to_logical_map"]
    assert [held[1], held[3]] == made.expert_LP.tolist()
    for row_P in held:  # dense layers' too
        assert all(len({*row_P[at : at + 3]}) == 3 for at in range(0, 12, 3))
    written = re.findall(r"\[(.*)\]", (tmp_path / "p.yaml").read_text())
    assert [[int(each) for each in row.split(",")] for row in written] == made.expert_LP.tolist()


def test_the_command_balances_and_says_how_well(rng, tmp_path):
    save_trace(random_trace(rng, tokens=60, layers=2, slots=2, experts=8), tmp_path / "t.trace.parquet")
    words = [sys.executable, "-m", "traces", "export", "eplb", tmp_path / "t.trace.parquet", "--devices", "4", "--out"]
    done = subprocess.run([*words, tmp_path / "p.npz", "--slots", "12"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "12 slots on 4 devices, 4 of them replicas; the fullest device has 1." in done.stdout
    held_LDX = np.load(tmp_path / "p.npz")["phy2log"].reshape(2, 4, 3)
    assert all(len({*held_X}) == 3 for held_X in held_LDX.reshape(-1, 3).tolist())
    done = subprocess.run([*words, tmp_path / "q.npz", "--slots", "36"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "36 slots on 4 devices: allowed equally many on each" in done.stderr
