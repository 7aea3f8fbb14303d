"""Queues over linked devices: both engines leave equal records, and those of a plain second writing of the rules."""

from dataclasses import replace

import numpy as np
import pytest
from cluster_worlds import cluster, linked, net_of, placed, queue_runs, rows_of
from equality import assert_equal, assert_equal_records, simulate_by_simpy, simulate_compiled
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plain_queues import PlainQueues
from random_worlds import costs, workloads
from random_worlds import settings as run_settings
from worlds import world

from moe_replay.simulate.compiled.cluster import queues_build
from moe_replay.simulate.policies.placement import PLACEMENTS
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_records import BATCH_COLUMNS, PASS_COLUMNS, members_crc

MESSAGES = ("layer", "kind", "source", "destination", "tokens", "bytes", "queued_ns", "start_ns", "end_ns")
BATCHES = ("device", "layer", "block", "tokens", "members_crc", "ready_ns", "start_ns", "end_ns", "forced")
ALL_AT_ONCE = {"arrivals": "all", "in_flight": None, "rate_per_s": None, "speed": 1.0, "seed": None}
both_engines = pytest.mark.parametrize("engine", [simulate_by_simpy, simulate_compiled])


@settings(max_examples=300, deadline=None)
@given(queue_runs())
def test_both_engines_leave_equal_records(drawn):
    assert_equal(*drawn)


@settings(max_examples=100, deadline=None)
@given(queue_runs(**ALL_AT_ONCE))
def test_a_run_is_as_the_rules_say(drawn):
    workload, config, cost = drawn
    # One pass of each sequence: what follows the end of a pass is a matter of arrivals.
    chosen = workload.first_pass_G
    fields = ("first_row_P", "tokens_P", "sequence_P", "step_P", "group_P", "round_P")
    workload = replace(workload, **{name: getattr(workload, name)[chosen] for name in fields})
    if config.placement == "contiguous":
        slots = [list(range(workload.experts))] * workload.layers
        if workload.experts % config.devices:
            return
    else:
        slots = PLACEMENTS[config.placement].placement.expert_LP.tolist()
    plain, found = plainly(workload, config, cost, slots), simulate_by_simpy(workload, config, cost, {})
    assert rows_of(found.messages, MESSAGES) == [
        [m[0], {"dispatch": 0, "combine": 1}[m[1]], *m[2:]] for m in plain.messages
    ]
    assert rows_of(found.batches, BATCHES) == [
        [*each[:4], members_crc(np.array(each[4], np.int64)), *each[5:]] for each in plain.batches
    ]
    assert dict(enumerate(found.passes["end_ns"].tolist())) == plain.ends


def plainly(workload, config, cost, slots):
    """Return a run of all passes at time 0, played by the plain model."""
    asked, row_N = config.cluster, workload.row_N
    made = PlainQueues(
        [[[int(e) for e in row if e >= 0] for row in workload.experts_TLK[t]] for t in row_N],
        workload.home_T[row_N].tolist(), workload.pass_N.tolist(), slots, config.devices, asked.nodes,
        net_of(asked, config.devices), cost,
        config.queue_size, config.dense_queue_size or config.queue_size, config.timeout_ns, config.dense,
        asked.shared_experts,
    )  # fmt: skip
    made.run()
    return made


@settings(max_examples=60, deadline=None)
@given(workloads(max_experts=6), st.data(), costs())
def test_one_device_is_plain_queues(workload, data, cost):
    config = data.draw(run_settings(workload.experts, devices=1))
    plain = simulate_by_simpy(workload, config, cost, {"config": {}})
    homes = np.zeros(len(workload.experts_TLK), np.int64)
    asked = cluster(inside_latency_ns=3, unit=data.draw(st.sampled_from(["device", "selection"])))
    for engine in (simulate_by_simpy, simulate_compiled):
        found = engine(replace(workload, home_T=homes), replace(config, cluster=asked), cost, {"config": {}})
        for kind, names in (("passes", PASS_COLUMNS), ("batches", BATCH_COLUMNS)):
            for name in names:
                np.testing.assert_array_equal(getattr(found, kind)[name], getattr(plain, kind)[name], err_msg=name)
        assert not found.batches["micro_batch"].any()
        assert len(found.messages["end_ns"]) == 0


@both_engines
def test_costs_that_are_drawn_are_asked_for_in_the_order_of_the_batches(engine):
    made = world([[[0, 2]], [[3, 1]], [[0, 3]], [[1, 2]]], 4)
    drawn = linked(
        made, [0, 1, 0, 1], placed([[0, 1, 2, 3]], 4, 2), 2, cluster(inside_latency_ns=4), scheduler="queues"
    )  # fmt: skip
    asked = []
    engine(*drawn, lambda layer, block, tokens: asked.append((layer, block, tokens)) or 5, {})
    found = simulate_by_simpy(*drawn, lambda layer, block, tokens: 5, {}).batches
    assert asked == [tuple(row) for row in rows_of(found, ("layer", "block", "tokens"))]


@pytest.mark.parametrize(
    ("latency_ns", "service_ns", "fields", "said"),
    [
        (2**63 - 2, 5, {}, "with a message between devices"),
        (3, 2**62, {}, "with the batch of 1 tokens in layer 0, expert 1 that starts"),
        (0, 2**63, {}, "with the batch of 1 tokens in layer 0, dense block that starts at 0 ns"),
        (0, 5, {"timeout_ns": 2**63 - 2, "queue_size": 2, "dense_queue_size": 1}, "with a queue's time-out of"),
    ],
)
def test_both_engines_refuse_a_clock_that_would_not_hold_the_run(latency_ns, service_ns, fields, said):
    made = world([[[1], [1], [1]]], 2)
    drawn = linked(
        made, [0], placed([[0, 1]] * 3, 2, 2), 2, cluster(inside_latency_ns=latency_ns), scheduler="queues", **fields
    )  # fmt: skip
    for engine in (simulate_by_simpy, simulate_compiled):
        with pytest.raises(InputError, match=said):
            engine(*drawn, lambda layer, block, tokens: service_ns, {})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=queue_runs())
def test_records_move_as_messages_arrive(monkeypatch, drawn):
    monkeypatch.setattr(queues_build, "FIRST_RECORDS", 1)
    arguments = (*drawn, {"config": {}})
    assert_equal_records(simulate_compiled(*arguments), simulate_by_simpy(*arguments), drawn[1].name)


def test_records_of_long_runs_find_room():
    """More messages, and more of them under way, than there is room for at first: latency is long, bytes are none."""
    rng = np.random.default_rng(3)
    experts = [[rng.permutation(8)[:2].tolist() for _ in range(2)] for _ in range(9_000)]
    asked = cluster(inside_latency_ns=10**6, inside_bytes_per_s=float("inf"))
    drawn = linked(
        world(experts, 8), np.arange(9_000) % 4, placed([[*range(8)]] * 2, 8, 4), 4, asked, scheduler="queues",
        queue_size=512, dense_queue_size=4096,
    )  # fmt: skip
    assert_equal(*drawn, lambda layer, block, tokens: 7)
