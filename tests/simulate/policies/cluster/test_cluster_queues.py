"""Queues over linked devices: worlds that can be worked out in the margin, closed forms, bounds, conservation."""

from dataclasses import replace

import numpy as np
import pytest
from cluster_worlds import cluster, linked, placed, queue_runs
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import world

from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.simulate.policies.cluster.ports import wire_ns

DISPATCH, COMBINE = 0, 1
BATCHES = ("device", "layer", "block", "tokens", "ready_ns", "start_ns", "end_ns")
MESSAGES = ("layer", "kind", "source", "destination", "tokens", "bytes", "queued_ns", "start_ns", "end_ns")


def cost(layer, block, tokens):
    """100 + 10 n for dense blocks, 50 + 20 n for experts."""
    return 50 + 20 * tokens if block else 100 + 10 * tokens


def rows(columns, names):
    """Return some columns of a table as a list of rows."""
    return [tuple(int(value) for value in row) for row in zip(*(columns[name] for name in names), strict=True)]


def run(experts, E, homes, slots, devices, asked, sequence=None, **fields):
    """Return the records of passes that all arrive at time 0; one for each row unless sequences are given."""
    placement = placed(slots, E, devices, 1)
    fields = {"scheduler": "queues", **fields}
    return simulate(*linked(world(experts, E, sequence), homes, placement, devices, asked, **fields), cost, {})


def test_two_devices_of_which_one_sends():
    """B = 1. Pass 0 stays at home 0, passes 1 (home 0) and 2 run expert 1 on device 1: 100 bytes there, 200 back.

    Device 0 runs the dense blocks of passes 0 and 1 in turn, since the queue rejoins the list in front of expert 0's.
    """
    asked = cluster(inside_latency_ns=700, inside_bytes_per_s=2e9, dispatch_bytes=100, combine_bytes=200)
    found = run([[[0]], [[1]], [[1]]], 2, [0, 0, 1], [[0, 1]], 2, asked)
    assert rows(found.batches, BATCHES) == [
        (0, 0, 0, 1, 0, 0, 110), (1, 0, 0, 1, 0, 0, 110), (0, 0, 0, 1, 0, 110, 220), (1, 0, 2, 1, 110, 110, 180),
        (1, 1, 0, 1, 180, 180, 290), (0, 0, 1, 1, 110, 220, 290), (0, 1, 0, 1, 290, 290, 400),
        (1, 0, 2, 1, 970, 970, 1040), (0, 1, 0, 1, 1840, 1840, 1950),
    ]  # fmt: skip
    assert rows(found.messages, MESSAGES) == [
        (0, 0, 0, 1, 1, 100, 220, 220, 970), (0, 1, 1, 0, 1, 200, 1040, 1040, 1840)
    ]  # fmt: skip
    assert found.passes["end_ns"].tolist() == [400, 1950, 290]


def test_messages_are_made_in_queue_order_then_by_destination():
    """A dense batch of two passes sends 50 bytes to devices 1 and 2 for each of them, one after another from its port.

    Both experts' queues wait for their second member; one message brings the results of both passes back.
    """
    asked = cluster(inside_latency_ns=5, dispatch_bytes=50)
    found = run([[[1, 2]], [[1, 2]]], 3, [0, 0], [[0, 1, 2]], 3, asked, queue_size=2)
    assert rows(found.messages, MESSAGES) == [
        (0, 0, 0, 1, 1, 50, 120, 120, 175), (0, 0, 0, 2, 1, 50, 120, 170, 225), (0, 0, 0, 1, 1, 50, 120, 220, 275),
        (0, 0, 0, 2, 1, 50, 120, 270, 325), (0, 1, 1, 0, 2, 2, 365, 365, 372), (0, 1, 2, 0, 2, 2, 415, 415, 422),
    ]  # fmt: skip
    assert rows(found.batches, BATCHES)[1:3] == [(1, 0, 2, 2, 275, 275, 365), (2, 0, 3, 2, 325, 325, 415)]
    assert found.passes["end_ns"].tolist() == [542, 542]


@pytest.mark.parametrize(
    ("fields", "starts", "ends"),
    [
        # The message is pending, so that its queue does not stall: the batch waits for the second member.
        ({"queue_size": 2}, [(1001, False)], [1091, 2092]),
        # With both members there nothing is pending, and the queue is forced.
        ({"queue_size": 3}, [(1001, True)], [1091, 2092]),
        # A member waits from its delivery.
        ({"queue_size": 2, "timeout_ns": 10}, [(10, False), (1011, False)], [80, 2082]),
        ({"queue_size": 2, "timeout_ns": 2000}, [(1001, False)], [1091, 2092]),
    ],
)
def test_a_queue_waits_for_what_is_on_its_way(fields, starts, ends):
    """Two tokens of homes 0 and 1 select expert 0 on device 0: one byte over a latency of 1,000 ns, without dense."""
    found = run([[[0]], [[0]]], 2, [0, 1], [[0, 1]], 2, cluster(inside_latency_ns=1000), dense=False, **fields)
    assert list(zip(found.batches["start_ns"], found.batches["forced"], strict=True)) == starts
    assert found.passes["end_ns"].tolist() == ends


def test_replicas_are_taken_in_turn_over_the_whole_run_or_near():
    """Expert 0 is on devices 0 and 1, all four passes have home 0."""
    for split, counts in (("round-robin", {1: 2, 3: 2}), ("nearest", {1: 4})):
        found = run([[[0]]] * 4, 2, [0] * 4, [[0, 1, 0, -1]], 2, cluster(split=split), dense=False)
        blocks, times = np.unique(found.batches["block"], return_counts=True)
        assert dict(zip(blocks.tolist(), times.tolist(), strict=True)) == counts


def test_parts_of_a_pass_move_on_by_themselves():
    """One prompt of three tokens, two at home on device 0 and one on device 1; experts are local, B = 1."""
    found = run([[[0]], [[1]], [[0]]], 2, [0, 1, 0], [[0, 1]], 2, cluster(), sequence=[0, 0, 0])
    assert rows(found.batches, ("device", "layer", "block", "size", "tokens", "start_ns", "end_ns")) == [
        (0, 0, 0, 1, 2, 0, 120), (1, 0, 0, 1, 1, 0, 110), (1, 0, 2, 1, 1, 110, 180), (0, 0, 1, 1, 1, 120, 190),
        (1, 1, 0, 1, 1, 180, 290), (0, 0, 1, 1, 1, 190, 260), (0, 1, 0, 1, 2, 260, 380),
    ]  # fmt: skip
    assert found.passes["end_ns"].tolist() == [380]


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 6), st.sampled_from([0, 1, 30]), st.sampled_from([1e9, 3e8, float("inf")]), st.sampled_from([1, 7])
)
def test_one_token_of_every_home_for_every_device(devices, latency_ns, bytes_per_s, size):
    """The rotated exchange takes latency + (D - 1) messages there, and as much back; every queue fills once."""
    asked = cluster(
        inside_latency_ns=latency_ns, inside_bytes_per_s=bytes_per_s, dispatch_bytes=size, combine_bytes=size
    )
    experts, slots = [[list(range(devices))]] * devices, [list(range(devices))]
    found = run(experts, devices, range(devices), slots, devices, asked, queue_size=devices, dense_queue_size=1)
    exchange_ns = latency_ns + (devices - 1) * wire_ns(size, bytes_per_s)
    assert (found.batches["tokens"][found.batches["block"] > 0] == devices).all()
    assert set(found.passes["end_ns"]) == {2 * cost(0, 0, 1) + cost(0, 1, devices) + 2 * exchange_ns}


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.data())
def test_an_exchange_is_bounded_by_its_fullest_ports(devices, data):
    """A dense queue that holds all passes of a home lets all messages of a home be made at once."""
    homes = data.draw(st.lists(st.integers(0, devices - 1), min_size=1, max_size=12))
    experts = [[[data.draw(st.integers(0, devices - 1))]] for _ in homes]
    latency_ns = data.draw(st.sampled_from([0, 1, 25]))
    asked = cluster(inside_latency_ns=latency_ns, dispatch_bytes=10)
    workload, config = linked(
        world(experts, devices), homes, placed([list(range(devices))], devices, devices), devices, asked,
        scheduler="queues", dense_queue_size=1000,
    )  # fmt: skip
    found = simulate(workload, config, lambda layer, block, tokens: 100, {}).messages
    out = found["kind"] == DISPATCH
    if out.any():
        makespan = found["end_ns"][out].max() - 100
        per_port = [
            np.bincount(found[side][out], found["bytes"][out], minlength=devices) for side in ("source", "destination")
        ]
        assert max(each.max() for each in per_port) <= makespan
        assert makespan <= latency_ns + per_port[0].max() + per_port[1].max()


@settings(max_examples=60, deadline=None)
@given(queue_runs())
def test_tokens_are_conserved(drawn):
    workload, config, cost = drawn
    asked, selections = config.cluster, workload.selections_PL.sum()
    copies = {}
    for unit in ("device", "selection"):
        found = simulate(workload, replace(config, cluster=replace(asked, unit=unit)), cost, {})
        batches, messages = found.batches, found.messages
        of_experts = batches["block"] > 0
        of_shared = workload.tokens_P.sum() * workload.layers * asked.shared_experts
        assert batches["tokens"][of_experts].sum() == selections + of_shared
        dense_tokens = workload.tokens_P.sum() * (workload.layers + 1) * config.dense
        assert batches["tokens"][~of_experts].sum() == dense_tokens
        back = messages["kind"] == COMBINE
        each = np.where(back, asked.combine_bytes, asked.dispatch_bytes)
        assert (messages["bytes"] == messages["tokens"] * each).all()
        assert (messages["source"] != messages["destination"]).all()
        copies[unit] = [int(messages["tokens"][messages["kind"] == kind].sum()) for kind in (DISPATCH, COMBINE)]
        # A message comes into being and goes within the run; a batch runs members that are there.
        assert (batches["size"] <= np.where(of_experts, config.queue_size, config.dense_queue_size or 1000)).all()
    assert copies["device"][0] <= copies["selection"][0] == copies["selection"][1] <= selections


@settings(max_examples=60, deadline=None)
@given(queue_runs(arrivals="all", in_flight=None, rate_per_s=None))
def test_a_run_takes_at_least_the_work_of_its_busiest_device_and_the_way_of_a_token(drawn):
    workload, config, cost = drawn
    found = simulate(workload, config, cost, {})
    busy_ns = np.bincount(found.batches["device"], found.batches["end_ns"] - found.batches["start_ns"])
    assert found.passes["end_ns"].max() >= busy_ns.max(initial=0)
    way_ns = found.messages["end_ns"] - found.messages["queued_ns"]
    assert (way_ns >= min(config.cluster.inside_latency_ns, config.cluster.network_latency_ns)).all()
