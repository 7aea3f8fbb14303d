"""Linked devices: both engines leave equal records, and those that a plain second writing of the rules has."""

from dataclasses import replace

import numpy as np
import pytest
from cluster_worlds import cluster, cluster_runs, linked, net_of, placed, rows_of
from engine_worlds import in_lockstep
from equality import assert_equal, assert_equal_records, simulate_by_simpy, simulate_compiled
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_cluster import PlainStep
from random_worlds import costs, workloads
from random_worlds import settings as run_settings
from worlds import world

from moe_replay.simulate.compiled.cluster import cluster_build
from moe_replay.simulate.engines import compiled_cluster
from moe_replay.simulate.policies.placement import PLACEMENTS
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_records import BATCH_COLUMNS, PASS_COLUMNS

BATCHES = ("device", "micro_batch", "layer", "block", "tokens", "start_ns", "end_ns")
MESSAGES = (
    "micro_batch",
    "layer",
    "kind",
    "source",
    "destination",
    "tokens",
    "bytes",
    "queued_ns",
    "start_ns",
    "end_ns",
)


@settings(max_examples=60, deadline=None)
@given(cluster_runs())
def test_both_engines_leave_equal_records(drawn):
    assert_equal(*drawn)


@settings(max_examples=60, deadline=None)
@given(cluster_runs(one_step=True))
def test_a_step_is_as_the_rules_say(drawn):
    workload, config, cost = drawn
    plain, found = plainly(workload, config, cost), simulate_by_simpy(workload, config, cost, {})
    assert rows_of(found.batches, BATCHES) == [list(each) for each in plain.batches]
    kinds = {"dispatch": 0, "combine": 1}
    assert rows_of(found.messages, MESSAGES) == [[*m[:2], kinds[m[2]], *m[3:]] for m in plain.messages]


def plainly(workload, config, cost):
    """Return the one step of a run, played by the plain model."""
    asked = config.cluster
    works = config.dense or asked.shared_experts
    served = [p for p in range(workload.passes) if works or workload.selections_PL[p].any()]
    rows = [int(workload.first_row_P[p]) + i for p in served for i in range(int(workload.tokens_P[p]))]
    experts = [[[int(e) for e in row if e >= 0] for row in workload.experts_TLK[t]] for t in rows]
    step = PlainStep(
        experts, [int(workload.home_T[t]) for t in rows], PLACEMENTS[config.placement].placement.expert_LP.tolist(),
        config.devices, asked.nodes, asked.micro_batches, net_of(asked, config.devices), cost, config.dense,
        asked.shared_experts,
    )  # fmt: skip
    step.run()
    return step


@settings(max_examples=20, deadline=None)
@given(cluster_runs())
def test_records_that_come_in_many_parts_are_the_same(drawn):
    """The loop's lists are as short as can be: it asks for room, and its records are kept, at every step."""
    expected = simulate_compiled(*drawn, {"config": {}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_build, "FIRST_RECORDS", 1)
        patch.setattr(compiled_cluster, "MOST_RECORDS", 1)
        assert_equal_records(simulate_compiled(*drawn, {"config": {}}), expected, "parts")


@settings(max_examples=40, deadline=None)
@given(workloads(max_experts=6), st.data(), costs(), st.none() | st.integers(1, 3))
def test_one_device_is_plain_lockstep(workload, data, cost, max_step):
    config = in_lockstep(data.draw(run_settings(workload.experts, devices=1)), max_step)
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


@pytest.mark.parametrize("engine", [simulate_by_simpy, simulate_compiled])
def test_costs_that_are_drawn_are_asked_for_in_the_order_of_the_batches(engine, one_step):
    workload, config = one_step
    asked = []
    engine(workload, config, lambda layer, block, tokens: asked.append((layer, block, tokens)) or 5, {})
    found = simulate_by_simpy(workload, config, lambda layer, block, tokens: 5, {}).batches
    assert asked == [tuple(row) for row in rows_of(found, ("layer", "block", "tokens"))]


@pytest.mark.parametrize(
    ("latency_ns", "service_ns", "said"),
    [
        (2**62, 5, "with a message between devices"),
        (3, 2**62, "with the batch of 1 tokens in layer 0, expert 0 that starts"),
        (0, 2**63, "with the batch of 1 tokens in layer 0, dense block that starts at 0 ns"),
    ],
)
def test_both_engines_refuse_a_clock_that_would_not_hold_the_run(latency_ns, service_ns, said):
    made = world([[[1], [1], [1]], [[0], [0], [0]]], 2)
    drawn = linked(made, [0, 1], placed([[0, 1]] * 3, 2, 2), 2, cluster(inside_latency_ns=latency_ns))
    for engine in (simulate_by_simpy, simulate_compiled):
        with pytest.raises(InputError, match=said):
            engine(*drawn, lambda layer, block, tokens: service_ns, {})


@pytest.fixture
def one_step():
    made = world([[[0, 2]], [[3, 1]], [[0, 3]], [[1, 2]]], 4)
    return linked(made, [0, 1, 0, 1], placed([[0, 1, 2, 3]], 4, 2), 2, cluster(inside_latency_ns=4))
