"""Lockstep over linked devices: worlds that can be worked out in the margin, closed forms, bounds, conservation."""

from dataclasses import replace

import numpy as np
import pytest
from cluster_worlds import cluster, cluster_runs, linked, placed
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import world

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.simulate.policies.cluster.ports import Ports, wire_ns
from moe_replay.traces.errors import InputError

DISPATCH, COMBINE = 0, 1


def cost(layer, block, tokens):
    """100 + 10 n for dense blocks, 50 + 20 n for experts."""
    return 50 + 20 * tokens if block else 100 + 10 * tokens


def rows(columns, names):
    """Return some columns of a table as a list of rows."""
    return [tuple(int(value) for value in row) for row in zip(*(columns[name] for name in names), strict=True)]


def batches(found):
    """Return (device, micro-batch, layer, block, tokens, start, end) of every batch."""
    return rows(found.batches, ("device", "micro_batch", "layer", "block", "tokens", "start_ns", "end_ns"))


def messages(found):
    """Return (layer, kind, source, destination, tokens, bytes, queued, start, end) of every message."""
    names = ("layer", "kind", "source", "destination", "tokens", "bytes", "queued_ns", "start_ns", "end_ns")
    return rows(found.messages, names)


def run(experts, E, homes, slots, devices, asked, **fields):
    """Return the records of a step."""
    placement = placed(slots, E, devices, 1)
    return simulate(*linked(world(experts, E), homes, placement, devices, asked, **fields), cost, {})


def test_two_devices_of_which_one_sends():
    """Row 0 stays at home, rows 1 (from home 0) and 2 run expert 1 on device 1: 100 bytes there, 200 back."""
    asked = cluster(inside_latency_ns=700, inside_bytes_per_s=2e9, dispatch_bytes=100, combine_bytes=200)
    found = run([[[0]], [[1]], [[1]]], 2, [0, 0, 1], [[0, 1]], 2, asked)
    assert batches(found) == [
        (0, 0, 0, 0, 2, 0, 120), (1, 0, 0, 0, 1, 0, 110), (0, 0, 0, 1, 1, 120, 190), (1, 0, 0, 2, 2, 870, 960),
        (1, 0, 1, 0, 1, 960, 1070), (0, 0, 1, 0, 2, 1760, 1880),
    ]  # fmt: skip
    assert messages(found) == [(0, 0, 0, 1, 1, 100, 120, 120, 870), (0, 1, 1, 0, 1, 200, 960, 960, 1760)]


def test_a_queue_at_a_port_in_holds_nobody_up_at_the_port_out():
    """Devices 0 and 1 send to device 2 at once: both ports out are free again at 110 + 50, the port in takes one."""
    asked = cluster(inside_latency_ns=5, dispatch_bytes=50, combine_bytes=1)
    found = run([[[2]], [[2]]], 3, [0, 1], [[0, 1, 2]], 3, asked)
    assert messages(found)[:2] == [(0, 0, 0, 2, 1, 50, 110, 110, 165), (0, 0, 1, 2, 1, 50, 110, 110, 215)]
    assert messages(found)[2:] == [(0, 1, 2, 0, 1, 1, 305, 305, 311), (0, 1, 2, 1, 1, 1, 305, 306, 312)]


def test_a_relay_forwards_and_gathers():
    """Home 0 (node 0, place 0) has a token for both devices of node 1: one message there and one back, by device 2."""
    asked = cluster(nodes=2, network_latency_ns=100, dispatch_bytes=10, combine_bytes=20, mode="hierarchical")
    found = run([[[2, 3]]], 4, [0], [[0, 1, 2, 3]], 4, asked)
    assert messages(found) == [
        (0, 0, 0, 2, 1, 10, 110, 110, 220), (0, 0, 2, 3, 1, 10, 220, 220, 230),
        (0, 1, 3, 2, 1, 20, 300, 300, 320), (0, 1, 2, 0, 1, 20, 320, 320, 440),
    ]  # fmt: skip
    direct = run([[[2, 3]]], 4, [0], [[0, 1, 2, 3]], 4, replace(asked, mode="direct"))
    assert [row[2:4] for row in messages(direct)] == [(0, 2), (0, 3), (2, 0), (3, 0)]


def test_replicas_are_taken_in_turn_or_near():
    """Expert 0 is on devices 0 and 1; homes are 1, 1, 0, 1: in turn its slots are 0, 2, 0, 2, near 2, 2, 0, 2."""
    experts, slots = [[[0]]] * 4, [[0, 1, 0, -1]]
    for split, counts in (("round-robin", {1: 2, 3: 2}), ("nearest", {1: 1, 3: 3})):
        found = run(experts, 2, [1, 1, 0, 1], slots, 2, cluster(split=split))
        ran = [(row[3], row[4]) for row in batches(found) if row[3] > 0]
        assert dict(ran) == counts


def test_micro_batches_overlap():
    """While the first half is on the wire the second half's dense block runs, and each goes on by itself."""
    asked = cluster(inside_latency_ns=1000, micro_batches=2)
    found = run([[[1]], [[1]]], 2, [0, 0], [[0, 1]], 2, asked)
    assert batches(found)[:4] == [
        (0, 0, 0, 0, 1, 0, 110), (0, 1, 0, 0, 1, 110, 220), (1, 0, 0, 2, 1, 1111, 1181), (1, 1, 0, 2, 1, 1221, 1291)
    ]  # fmt: skip


@pytest.mark.parametrize("shared", [1, 2, 40])
@pytest.mark.parametrize("scheduler", ["lockstep", "queues"])
def test_shared_experts_run_while_messages_travel(scheduler, shared):
    """A token's way to an expert on device 1 and back takes 2 * 1,001 + 70 ns; its shared experts 70 each meanwhile."""
    asked = cluster(inside_latency_ns=1000, shared_experts=shared)
    found = run([[[1]]], 2, [0], [[0, 1]], 2, asked, scheduler=scheduler)
    assert found.passes["end_ns"].tolist() == [110 + max(2 * 1001 + 70, 70 * shared) + 110]
    of_shared = found.batches["block"] > 2
    assert found.batches["start_ns"][of_shared].tolist() == [110 + 70 * each for each in range(shared)]
    assert found.batches["block"][of_shared].tolist() == list(range(3, 3 + shared))
    assert (found.batches["device"][of_shared] == 0).all()


@pytest.mark.parametrize("shared", [0, 1, 30])
@pytest.mark.parametrize("scheduler", ["lockstep", "queues"])
def test_an_expert_waits_for_the_shared_ones_of_its_device(scheduler, shared):
    """Two homes send each other a token: experts begin when tokens are there and the device has run what it shares."""
    asked = cluster(inside_latency_ns=1000, shared_experts=shared)
    found = run([[[1]], [[0]]], 2, [0, 1], [[0, 1]], 2, asked, scheduler=scheduler)
    ends_ns = 110 + max(1001, 70 * shared) + 70 + 1001 + 110
    assert found.passes["end_ns"].tolist() == [ends_ns, ends_ns]


@pytest.mark.parametrize("shared", [0, 1, 3])
@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("scheduler", ["lockstep", "queues"])
def test_shared_experts_of_one_device_take_their_time(scheduler, dense, shared):
    """Two layers, the second without a selection: nothing travels, so that all adds up."""
    found = run([[[0], []]], 1, [0], [[0], [0]], 1, cluster(shared_experts=shared), scheduler=scheduler, dense=dense)
    assert found.passes["end_ns"].tolist() == [3 * 110 * dense + 70 + 2 * 70 * shared]


def test_a_device_without_tokens_runs_no_dense_block():
    found = run([[[0]], [[1]]], 2, [0, 0], [[0, 1]], 2, cluster())
    assert {row[0] for row in batches(found) if row[3] == 0} == {0}


@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 6), st.integers(1, 3), st.sampled_from([0, 1, 30]), st.sampled_from([1e9, 3e8, float("inf")]),
    st.sampled_from([1, 7]),
)  # fmt: skip
def test_a_uniform_exchange_takes_latency_and_all_messages_of_a_port(devices, tokens, latency_ns, bytes_per_s, size):
    experts = [[list(range(devices))]] * (devices * tokens)
    asked = cluster(inside_latency_ns=latency_ns, inside_bytes_per_s=bytes_per_s, dispatch_bytes=size)
    homes = np.arange(devices * tokens) % devices
    found = run(experts, devices, homes, [list(range(devices))], devices, asked).messages
    out = found["kind"] == DISPATCH
    took_ns = found["end_ns"][out].max() - found["queued_ns"][out].min()
    assert took_ns == latency_ns + (devices - 1) * wire_ns(tokens * size, bytes_per_s)


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.data())
def test_an_exchange_is_bounded_by_its_fullest_ports(devices, data):
    count = data.draw(st.integers(1, 12))
    experts = [[[data.draw(st.integers(0, devices - 1))]] for _ in range(count)]
    homes = [data.draw(st.integers(0, devices - 1)) for _ in range(count)]
    latency_ns = data.draw(st.sampled_from([0, 1, 25]))
    asked = cluster(inside_latency_ns=latency_ns, dispatch_bytes=10)
    workload, config = linked(
        world(experts, devices), homes, placed([list(range(devices))], devices, devices), devices, asked
    )
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
@given(cluster_runs(one_step=True))
def test_tokens_are_conserved_and_units_and_modes_are_ordered(drawn):
    workload, config, _ = drawn
    asked = config.cluster
    works = config.dense or asked.shared_experts
    served = [p for p in range(workload.passes) if works or workload.selections_PL[p].any()]
    of_shared = workload.tokens_P[served].sum() * workload.layers * asked.shared_experts

    def sent(**changed):
        one = replace(config, cluster=replace(asked, **changed))
        found = simulate(workload, one, cost, {})
        of_experts = found.batches["block"] > 0
        assert found.batches["tokens"][of_experts].sum() == workload.selections_PL[served].sum() + of_shared
        in_node = config.devices // asked.nodes
        inside = found.messages["source"] // in_node == found.messages["destination"] // in_node
        each = np.where(found.messages["kind"] == COMBINE, asked.combine_bytes, asked.dispatch_bytes)
        assert (found.messages["bytes"] == found.messages["tokens"] * each).all()
        copies = [found.messages["tokens"][found.messages["kind"] == kind].sum() for kind in (DISPATCH, COMBINE)]
        assert copies[0] == copies[1]  # what goes out comes back the same way
        return found.messages["bytes"].sum(), found.messages["bytes"][~inside].sum()

    direct, relayed = sent(mode="direct", unit="device"), sent(mode="hierarchical", unit="device")
    assert relayed[1] <= direct[1]
    assert direct[0] <= sent(mode="direct", unit="selection")[0]


def test_network_ports_are_shared_by_neighbours():
    ports = Ports(8, cluster(nodes=2, nics=2))
    assert [ports.network_port(device) for device in range(8)] == [8, 8, 9, 9, 10, 10, 11, 11]


def test_times_are_rounded_to_even_and_end_with_the_clock():
    assert [wire_ns(size, 2e9) for size in (1, 3, 5)] == [0, 2, 2]
    assert wire_ns(10, float("inf")) == 0
    assert wire_ns(2**31, 1) < 2**63 - 1 == wire_ns(2**40, 1)


def test_what_links_do_not_model_is_refused():
    linked_run = {"scheduler": "lockstep", "devices": 4, "cluster": cluster(nodes=2)}
    assert RunConfig(**{**linked_run, "scheduler": "queues"}).cluster == linked_run["cluster"]
    assert RunConfig.from_dict(RunConfig(**linked_run).as_dict()) == RunConfig(**linked_run)
    for changed, said in (
        ({"scheduler": "queues", "cluster": cluster(nodes=2, micro_batches=2)}, "micro_batches is 2, allowed 1 under"),
        ({"scheduler": "queues", "cluster": cluster(nodes=2, mode="hierarchical")}, "'hierarchical' is for lockstep"),
        ({"scheduler": "queues", "memory": MemoryConfig()}, "links and expert memory together are not modelled"),
        ({"devices": 3}, "3 devices in 2 nodes"),
        ({"memory": MemoryConfig()}, "links and expert memory together are not modelled"),
        ({"cluster": cluster(nodes=2, nics=3)}, r"nics is 3, allowed: 1..2"),
    ):
        with pytest.raises(InputError, match=said):
            RunConfig(**{**linked_run, **changed})
    with pytest.raises(InputError, match="unknown mode 'ring'; known: direct, hierarchical"):
        cluster(mode="ring")
    with pytest.raises(InputError, match="micro_batches is 0"):
        cluster(micro_batches=0)
