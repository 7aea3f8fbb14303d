"""Grids: cross products, rates from loads, and what a capacity is."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from worlds import config, records, world

from moe_replay.simulate.config.costs import MeanCosts, affine
from moe_replay.simulate.config.run_grid import RunGrid, capacity_per_s, selections_by_device
from moe_replay.simulate.config.workload import build_workload
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.runs.run_statistics import run_statistics


def sweep(**fields):
    base = {
        "fixed": {"arrivals": "all"}, "schedulers": ["queues"], "queue_sizes": [1, 2], "max_steps": [None],
        "in_flight": [], "loads": [], "rates_per_s": [], "ks": [None], "seeds": [0],
    }  # fmt: skip
    return RunGrid(**{**base, **fields})


def test_a_closed_sweep_is_the_cross_product():
    names = [
        each.name
        for each in sweep(fixed={"arrivals": "closed"}, in_flight=[8, 64], ks=[1, 2], seeds=[0, 1]).configs({})
    ]
    assert len(names) == len(set(names)) == 2 * 2 * 2 * 2
    assert names[0] == "queues-B001-closed8-k1-s0"
    assert names[-1] == "queues-B002-closed64-k2-s1"


def test_lockstep_is_swept_over_steps_and_not_over_queue_sizes():
    names = [each.name for each in sweep(schedulers=["queues", "lockstep"], max_steps=[16, 32]).configs({})]
    assert names == ["queues-B001-all-s0", "queues-B002-all-s0", "lockstep-S16-all-s0", "lockstep-S32-all-s0"]


def test_loads_become_rates_by_the_capacity_of_their_k():
    configs = sweep(fixed={"arrivals": "poisson"}, queue_sizes=[4], loads=[0.5], ks=[1, 2]).configs({1: 100.0, 2: 60.0})
    assert [(each.k, each.load, each.rate_per_s) for each in configs] == [(1, 0.5, 50.0), (2, 0.5, 30.0)]
    configs = sweep(fixed={"arrivals": "poisson"}, queue_sizes=[4], rates_per_s=[7.0]).configs({})
    assert [(each.load, each.rate_per_s) for each in configs] == [(None, 7.0)]


@pytest.mark.parametrize(("arrivals", "option"), [("closed", "--in-flight"), ("poisson", "--load or --rate")])
def test_an_arrival_process_without_its_numbers_is_refused(arrivals, option):
    with pytest.raises(InputError, match=f"arrivals '{arrivals}' needs {option}"):
        sweep(fixed={"arrivals": arrivals}).configs({})


def test_an_unknown_scheduler_is_refused():
    with pytest.raises(InputError, match="unknown scheduler 'fifo'; known: lockstep, queues"):
        sweep(schedulers=["fifo"]).configs({})


def one_token_world(tokens=400, experts=4, layers=2, k=2):
    rng = np.random.default_rng(0)
    rows = [[rng.choice(experts, k, replace=False).tolist() for _ in range(layers)] for _ in range(tokens)]
    return world(rows, experts)


def test_capacity_of_single_tokens_is_that_of_the_cost_table():
    rows = np.array([(0, block, n, 0, 1000 + 100 * n) for block in (0, 1) for n in (1, 8)])
    rows = np.concatenate([rows, [(layer, 0, n, 0, 500 + 40 * n) for layer in (1, 2) for n in (1, 8)]])
    kinds = (np.int16, np.int16, np.int32, np.int32, np.int64)
    names = ("layer", "block", "tokens", "repetition", "service_ns")
    table = CostTable({n: rows[:, i].astype(kind) for i, (n, kind) in enumerate(zip(names, kinds, strict=True))}, {})
    found = capacity_per_s(one_token_world(), MeanCosts(table), batch=4, dense=True, devices=1)
    assert found == pytest.approx(table.capacity_per_s(k=2, layers=2, batch=4), rel=1e-9)


def test_a_machine_that_never_waits_works_at_its_capacity():
    workload, cost = one_token_world(), affine(1000, 50)
    run = records(workload, config(queue_size=8, dense=True), cost)
    capacity = capacity_per_s(workload, cost, batch=8, dense=True, devices=1)
    forced = run.batches["forced"].mean()
    assert forced < 0.1
    assert 400e9 / run.passes["end_ns"].max() == pytest.approx(capacity, rel=0.1)
    assert 400e9 / run.passes["end_ns"].max() <= capacity  # forced batches are not full


def test_of_several_devices_the_busiest_sets_the_capacity():
    """Device 0 has experts 0 and 1, which get 6 of 8 selections, and the dense blocks of layers 0 and 1."""
    workload, cost = world([[[0], [1]]] * 3 + [[[2], [3]]], 4), affine(1000, 50)
    full = 1400 / 8
    found = [capacity_per_s(workload, cost, 8, dense, devices=2) for dense in (False, True)]
    assert found == pytest.approx([4e9 / (6 * full), 4e9 / ((6 + 8) * full)])
    assert capacity_per_s(workload, cost, 8, dense=False, devices=1) == pytest.approx(4e9 / (8 * full))


@pytest.mark.parametrize("dense", [False, True])
def test_a_load_is_what_the_records_say_was_offered_on_several_devices_too(dense):
    rng = np.random.default_rng(2)
    experts_TL1 = rng.choice(4, (900, 2, 1), p=[0.6, 0.2, 0.1, 0.1])
    workload, cost = world(experts_TL1.tolist(), 4), affine(1000, 100)
    rate = 0.5 * capacity_per_s(workload, cost, 4, dense, devices=4)
    offered = config(queue_size=4, arrivals="poisson", rate_per_s=rate, seed=0, devices=4, dense=dense)
    run = replace(records(workload, offered, cost), header={"config": asdict(offered)})
    assert run_statistics(run).values["offered_load"] == pytest.approx(0.5, rel=0.01)


def test_passes_that_a_cycled_trace_serves_twice_count_twice():
    rows = np.array([[[0]], [[1]], [[1]]])
    workload = build_workload(rows, np.arange(3), np.arange(3), 2, 4)  # rows 0, 1, 2 and 0 again
    assert selections_by_device(workload, np.array([[0, 0, 1]]), 2).tolist() == [[2, 2]]


def test_dense_batches_of_several_tokens_cost_by_their_tokens():
    workload = world([[[0]]] * 4, 1, sequence=[0, 0, 1, 1])  # two passes of two tokens
    cost = affine(0, 10)
    assert capacity_per_s(workload, cost, batch=1, dense=True, devices=1) == pytest.approx(1e9 / (2 * 10 + 2 * 20))
