"""Misses that the host computes: it gets them when their stage begins, whatever the device does meanwhile."""

import numpy as np
import pytest
from memory_worlds import TEN, logs, memory
from worlds import config, fixed, world

from moe_replay.simulate.engines.compiled_engine import simulate as simulate_compiled
from moe_replay.simulate.engines.simpy_engine import simulate as simulate_by_simpy
from moe_replay.simulate.policies.memory.memory_setup import Known

BOTH = pytest.mark.parametrize("scheduler", [{"scheduler": "lockstep"}, {"queue_size": 1}], ids=str)
HOST = {"miss": "host", "filled": True}
BATCH = ("device", "layer", "block", "start_ns", "end_ns", "hit")


def logs_of_both(workload, run, cost, known):
    """Return the logs of a run, which both engines agree on."""
    expected, found = (
        engine(workload, run, cost, {"config": {}}, known) for engine in (simulate_by_simpy, simulate_compiled)
    )
    assert [found.batches[name].tolist() for name in BATCH] == [expected.batches[name].tolist() for name in BATCH]
    assert found.header == expected.header
    return logs(workload, run, cost, known)


@BOTH
@pytest.mark.parametrize(("hit", "miss"), [(0, 2), (2, 0), (1, 2)])
def test_a_hit_of_one_unit_and_a_miss_of_ten_take_ten_in_either_order(scheduler, hit, miss):
    two = world([[[hit]], [[miss]]], E=3)
    run = config(**scheduler, memory=memory(slots=1, host_factor=10.0, **HOST))
    known = Known(popularity=[int(expert == hit) for expert in range(3)])
    assert logs_of_both(two, run, fixed(1), known) == (
        [f"0-1 d0 0.{1 + hit} [0] hit", f"0-10 d1 0.{1 + miss} [1] miss"], [],
    )  # fmt: skip


def hybrid(backwards):
    """Return (workload, popularity, hits [T, L]): 64 experts, of which the 48 most popular have the lower numbers."""
    rng = np.random.default_rng(7)
    experts_TLK = np.argsort(rng.random((30, 2, 64)), axis=2)[:, :, :8]
    hits_TL, popularity = (experts_TLK < 48).sum(2), np.arange(64, 0, -1)
    if backwards:
        experts_TLK, popularity = 63 - experts_TLK, popularity[::-1]
    workload = world(experts_TLK.tolist(), 64, sequence=[0] * 30, step=range(30))
    return workload, popularity.tolist() * 2, hits_TL


@BOTH
@pytest.mark.parametrize("engine", [simulate_by_simpy, simulate_compiled], ids=["simpy", "compiled"])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_layer_takes_the_longer_of_both_lanes_however_experts_are_numbered(scheduler, engine, backwards):
    """48 of 64 experts on the device at 100 us, the rest at 300 us on the host: max(100 hits, 300 misses) per layer."""
    workload, popularity, hits_TL = hybrid(backwards)
    kept = memory(slots=48, cache="static", host_factor=3.0, **HOST)
    run = config(**scheduler, arrivals="closed", in_flight=1, memory=kept)
    records = engine(workload, run, fixed(100_000), {"config": {}}, Known(popularity=popularity))
    expected_TL = np.maximum(100_000 * hits_TL, 300_000 * (8 - hits_TL))
    assert records.passes["end_ns"].tolist() == expected_TL.sum(1).cumsum().tolist()
    assert records.header["memory"]["hits"] == hits_TL.sum()
    assert (records.batches["device"] == 1).sum() == (8 - hits_TL).sum()


@BOTH
def test_misses_of_several_devices_join_the_hosts_list_in_order_of_their_blocks(scheduler):
    """Experts 0 and 1 are on device 0, 2 and 3 on device 1; 0 and 3 are absent."""
    one = world([[[3, 2, 1, 0]]], E=4)
    run = config(**scheduler, devices=2, memory=memory(slots=1, **HOST))
    batches, _ = logs_of_both(one, run, TEN, Known(popularity=[0, 1, 1, 0]))
    assert batches == [
        "0-10 d0 0.2 [0] hit", "0-10 d1 0.3 [0] hit", "0-10 d2 0.1 [0] miss", "10-20 d2 0.4 [0] ready 0 miss",
    ]  # fmt: skip


@BOTH
def test_what_is_on_its_way_holds_up_neither_hits_nor_misses(scheduler):
    """Pass 1 asks at 9 for what pass 0 selected in layer 1: expert 0 comes from 9 to 16 in place of expert 2."""
    passes = world([[[0], [0]], [[0], [0, 1, 2]]], E=3, sequence=[0, 0], step=[0, 1])
    kept = memory(slots=2, prefetch="previous-token", host_factor=2.0, **HOST)
    run = config(**scheduler, arrivals="closed", in_flight=1, memory=kept)
    assert logs_of_both(passes, run, fixed(3), Known(popularity=[2, 1, 0, 0, 2, 1])) == (
        [
            "0-3 d0 0.1 [0] hit", "3-9 d1 1.1 [0] miss", "9-12 d0 0.1 [1] hit",
            "12-15 d0 1.2 [1] hit", "12-18 d1 1.3 [1] miss", "16-19 d0 1.1 [1] ready 12 miss",
        ],
        ["9 9-16 3>0 -5 ahead"],
    )  # fmt: skip


def test_a_hit_that_waits_for_the_device_keeps_its_slot():
    """With one layer a prefetch asks for what was just selected: expert 2 finds one running and one that waits."""
    three = world([[[0]], [[1]], [[2]]], E=3)
    run = config(queue_size=1, memory=memory(slots=2, prefetch="previous-token", **HOST))
    assert logs_of_both(three, run, TEN, Known(popularity=[2, 1, 0])) == (
        ["0-10 d0 0.1 [0] hit", "0-10 d1 0.3 [2] miss", "10-20 d0 0.2 [1] ready 0 hit"], [],
    )  # fmt: skip


def test_what_the_host_leaves_behind_begins_at_once_on_a_device_that_can_run_it():
    """Expert 1 was absent at 0 and is there at 8. At 10 the host takes token 1 of its queue, and the device token 2."""
    three = world([[[0]], [[1]], [[1]]], E=4)
    kept = memory(slots=2, prefetch="previous-token", link_latency_ns=3, **HOST)
    assert logs_of_both(three, config(queue_size=1, memory=kept), TEN, Known(popularity=[0, 0, 2, 1])) == (
        ["0-10 d1 0.1 [0] miss", "10-20 d1 0.2 [1] ready 0 miss", "10-20 d0 0.2 [2] hit"],
        ["0 0-4 0>0 -3 ahead", "0 4-8 1>1 -2 ahead"],
    )  # fmt: skip


def test_an_expert_that_runs_on_the_device_stays_when_the_host_is_done_with_it():
    """Expert 0 runs on the device from 7 to 17, on the host until 10. Nobody may take its slot at 10 for expert 1."""
    five = world([[[0]], [[0]], [[0]], [[1]], [[1]]], E=3)
    kept = memory(slots=1, prefetch="previous-token", host_factor=0.5, **HOST)
    run = config(queue_size=1, arrivals="closed", in_flight=3, memory=kept)
    assert logs_of_both(five, run, TEN, Known(popularity=[0, 0, 1])) == (
        [
            "0-5 d1 0.1 [0] miss", "5-10 d1 0.1 [1] ready 0 miss", "7-17 d0 0.1 [2] ready 5 miss",
            "10-15 d1 0.2 [3] ready 5 miss", "15-20 d1 0.2 [4] ready 10 miss",
        ],
        ["0 0-7 0>0 -2 ahead"],
    )  # fmt: skip
