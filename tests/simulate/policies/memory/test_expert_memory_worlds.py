"""Expert memory with time: what holds in every random world, and theory at the limits."""

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_worlds import memories, memory, played, with_candidates
from random_worlds import costs, workloads
from worlds import config

from moe_replay.simulate.config.memory_config import MASKED
from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.simulate.misses.group_misses import group_counts
from moe_replay.simulate.policies.caches.cache import Counts
from moe_replay.simulate.policies.caches.cache_names import CACHES, needs_loading
from moe_replay.simulate.policies.memory.knowledge import Group, Knowledge
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.sweeps.regret import CAUSES, split, worlds


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_in_every_world_all_work_is_done_and_no_expert_runs_that_is_not_there(data):
    workload = data.draw(workloads())
    devices = data.draw(st.integers(1, min(2, workload.experts)))
    kept = data.draw(memories(workload, devices))
    scheduler = data.draw(st.sampled_from([{"scheduler": "lockstep"}, {"queue_size": 1}, {"queue_size": 3}]))
    run = config(**scheduler, devices=devices, arrivals="closed", in_flight=data.draw(st.integers(1, 4)), memory=kept)
    worth = list(range(workload.layers * workload.experts))
    known = Known(worth, worth)
    cost = data.draw(costs())
    replay = played(workload, run, cost, known)
    records = replay.recording.records({"config": {}})
    selections = workload.selections_PL.sum()
    assert records.batches["size"][records.batches["block"] > 0].sum() == selections
    counts = replay.memory.counts
    assert counts.accesses == counts.hits + counts.delayed_hits + counts.misses == (records.batches["block"] > 0).sum()
    for caches in replay.memory.caches_DC:
        for cache in caches:
            assert len(cache.slot_of) <= kept.slots
            assert sorted([*cache.slot_of.values(), *cache.free]) == list(range(kept.slots))
    check_residency(records, kept, workload.experts)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_in_every_world_masked_gating_ends_every_pass_and_runs_residents_only(data):
    workload, cost = data.draw(workloads()), data.draw(costs())
    masked = with_candidates(workload, np.random.default_rng(data.draw(st.integers(0, 99))))
    cache = data.draw(st.sampled_from([name for name in sorted(CACHES) if not needs_loading(name)]))
    period = data.draw(st.sampled_from([None, 1, 3])) if cache == "importance" else None
    kept = memory(
        slots=data.draw(st.integers(1, workload.experts)), cache=cache, miss=data.draw(st.sampled_from(MASKED)),
        filled=True, period=period, link_latency_ns=data.draw(st.sampled_from([0, 5, 40])),
    )  # fmt: skip
    scheduler = data.draw(st.sampled_from([{"scheduler": "lockstep"}, {"queue_size": 1}, {"queue_size": 3}]))
    run = config(**scheduler, arrivals="closed", in_flight=data.draw(st.integers(1, 4)), memory=kept)
    worth = list(range(workload.layers * workload.experts))
    replay = played(masked, run, cost, Known(worth, worth))
    records = replay.recording.records({"config": {}})
    assert (records.passes["end_ns"] >= records.passes["arrival_ns"]).all()
    assert len(records.passes["end_ns"]) == workload.passes
    ran = records.batches["size"][records.batches["block"] > 0].sum()
    assert ran <= workload.selections_PL.sum()
    if kept.slots == workload.experts:
        assert (ran, replay.memory.summary["lost_mass"]) == (workload.selections_PL.sum(), 0)
    if period is None:
        held = {key for caches in replay.memory.caches_DC for cache in caches for key in cache.slot_of}
        used = records.batches["layer"] * workload.experts + records.batches["block"] - 1
        assert set(used[records.batches["block"] > 0].tolist()) <= held
        assert replay.memory.transfers == []


def check_residency(records, kept, experts):
    """Check that on a device no expert starts that was missed and whose transfer has not ended by then."""
    if kept.filled or kept.miss == "host":
        return
    arrived = {}
    for link, layer, expert, end_ns in zip(
        *(records.transfers[name] for name in ("link", "layer", "expert", "end_ns")), strict=True
    ):
        arrived.setdefault((int(link), int(layer), int(expert)), []).append(int(end_ns))
    for device, layer, block, start_ns in zip(
        *(records.batches[name] for name in ("device", "layer", "block", "start_ns")), strict=True
    ):
        if block:
            assert min(arrived[int(device), int(layer), int(block) - 1]) <= start_ns


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_blocking_lockstep_meets_what_group_mode_without_time_meets(data):
    workload = data.draw(workloads(several=False))
    policy = data.draw(st.sampled_from(sorted(set(CACHES) - {"random"})))
    slots = data.draw(st.integers(1, workload.experts))
    worth = list(range(workload.layers * workload.experts))
    run = config(
        scheduler="lockstep", arrivals="closed", in_flight=1, memory=memory(slots=slots, cache=policy, miss="block")
    )
    timed = played(workload, run, known=Known(worth, worth)).memory
    groups = groups_of(workload)
    if not groups:
        return
    knowledge = Knowledge(workload.layers, workload.experts, worth, worth)
    untimed = sum(group_counts([groups], policy, slots, "layer", "none", knowledge, 0), Counts())
    assert (timed.counts.hits, timed.counts.misses) == (untimed.hits, untimed.misses)
    assert timed.counts.evictions == untimed.evictions


def groups_of(workload):
    """Return the groups that passes one after another make in each layer."""
    groups = []
    for p in range(workload.passes):
        rows = workload.experts_TLK[workload.first_row_P[p] : workload.last_row_P[p] + 1]
        for layer in range(workload.layers):
            members = sorted({int(e) for e in rows[:, layer].ravel() if e >= 0})
            if members:
                keys = tuple(layer * workload.experts + expert for expert in members)
                groups.append(Group(layer, int(workload.sequence_P[p]), keys))
    return groups


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_limits_a_link_without_end_costs_nothing_and_ample_slots_miss_each_expert_once(data):
    workload, cost = data.draw(workloads()), data.draw(costs())
    free = memory(slots=1, link_latency_ns=0, link_bytes_per_s=1e15)
    base = config(scheduler="lockstep", arrivals="closed", in_flight=2)
    resident = simulate(workload, base, cost, {"config": {}})
    assert free.transfer_ns == 0
    run = simulate(workload, replace(base, memory=free), cost, {"config": {}})
    np.testing.assert_array_equal(run.passes["end_ns"], resident.passes["end_ns"])
    ample = played(workload, replace(base, memory=memory(slots=workload.experts)), cost).memory
    assert ample.counts.misses == len(ample.transfers) == len({each.key for each in ample.transfers})


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_the_causes_of_lost_time_add_up(data):
    workload, cost = data.draw(workloads()), data.draw(costs())
    kept = data.draw(memories(workload).filter(lambda each: each.miss in ("load", "block") and each.link == "fifo"))
    run = config(scheduler="lockstep", arrivals="closed", in_flight=2, memory=kept)
    worth = list(range(workload.layers * workload.experts))
    time = {
        name: int(simulate(workload, each, cost, {"config": {}}, Known(worth, worth)).passes["end_ns"].max())
        for name, each in worlds(run, workload.experts).items()
    }
    causes = split(time)
    assert sum(causes.values()) == time["run"] - time["resident"]
    assert set(causes) == set(CAUSES)
    assert causes["policy"] >= 0  # by the bound's definition, whatever time makes of fewest misses
    assert causes["compulsory"] >= 0 or kept.filled
