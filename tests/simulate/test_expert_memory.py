"""Expert memory with time: whole logs worked out by hand, theory at the limits, and what holds in every random world.

A transfer takes 7 ns, a batch 10 ns, unless a test says so; a transfer's line is `asked start-end key>slot`, with the
key that left behind `-` and `ahead` for a prefetch.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_worlds import costs, workloads
from worlds import config, fixed, line, world

from simulate.engine import Engine, order_of, simulate
from simulate.misses_groups import group_counts
from simulate.policies.memory.cache import Counts
from simulate.policies.memory.config import HANDLINGS, LINKS, MASKED, MemoryConfig
from simulate.policies.memory.knowledge import Group, Knowledge
from simulate.policies.memory.known import Known
from simulate.policies.memory.named import CACHES
from simulate.policies.memory.prefetch.named import PREFETCHERS
from simulate.regret import CAUSES, split, worlds
from traces.errors import InputError

TEN = fixed(10)


def memory(slots=1, cache="lru", **fields):
    """Return a memory whose transfers take 7 ns."""
    return MemoryConfig(cache=cache, slots=slots, **{"link_latency_ns": 6, "link_bytes_per_s": 1e9, **fields})


def played(workload, settings, cost=TEN, known=None):
    """Return the replay of a finished run."""
    if settings.memory.needs_order:
        known = replace(known or Known(), order=order_of(workload, settings, cost))
    engine = Engine(workload, settings, cost, known)
    engine.run()
    return engine.replay


def logs(workload, settings, cost=TEN, known=None):
    """Return the lines of the batches, with what they met, and those of the transfers."""
    replay = played(workload, settings, cost, known)
    batches = [f"{line(batch)} {'miss' if batch.hit == 0 else 'hit'}" for batch in replay.recording.batches]
    transfers = [
        f"{each.asked_ns} {each.start_ns}-{each.end_ns} {each.key}>{each.slot}"
        + (f" -{each.victim}" if each.victim >= 0 else "") + (" ahead" if each.prefetch else "")
        for each in replay.memory.transfers
    ]  # fmt: skip
    return batches, transfers


def test_two_demands_contend_for_one_link():
    two = world([[[0]], [[1]]], E=2)
    assert logs(two, config(queue_size=1, memory=memory(slots=2))) == (
        ["7-17 d0 0.1 [0] ready 0 miss", "17-27 d0 0.2 [1] ready 0 miss"],
        ["0 0-7 0>0", "0 7-14 1>1"],
    )


def test_other_queues_run_while_weights_travel_unless_misses_block():
    two = world([[[0]], [[1]]], E=3)  # experts 1 and 2 are there
    known = Known(popularity=[0, 2, 1])
    loading = config(queue_size=1, memory=memory(slots=2, filled=True))
    assert logs(two, loading, known=known) == (
        ["0-10 d0 0.2 [1] hit", "10-20 d0 0.1 [0] ready 0 miss"], ["0 0-7 0>0 -2"],
    )  # fmt: skip
    blocking = replace(loading, memory=replace(loading.memory, miss="block"))
    assert logs(two, blocking, known=known) == (
        ["7-17 d0 0.1 [0] ready 0 miss", "17-27 d0 0.2 [1] ready 0 hit"], ["0 0-7 0>0 -2"],
    )  # fmt: skip


def test_a_queue_whose_weights_have_come_goes_to_the_head_of_the_ready_list():
    """Expert 0 is absent. Its weights are there at 7, while expert 1 runs: it runs next, before expert 2."""
    three = world([[[0]], [[1]], [[2]]], E=4)
    loading = config(queue_size=1, memory=memory(slots=3, filled=True))
    assert logs(three, loading, known=Known(popularity=[0, 3, 2, 1])) == (
        ["0-10 d0 0.2 [1] hit", "10-20 d0 0.1 [0] ready 0 miss", "20-30 d0 0.3 [2] ready 0 hit"], ["0 0-7 0>0 -3"],
    )  # fmt: skip


def test_one_slot_is_enough_and_an_expert_that_waits_for_its_turn_is_not_evicted():
    three = world([[[0]], [[1]], [[0]]], E=2)
    assert logs(three, config(queue_size=1, memory=memory(slots=1))) == (
        [
            "7-17 d0 0.1 [0] ready 0 miss",
            "24-34 d0 0.2 [1] ready 0 miss",  # asked at 0, had a slot when expert 0 had run
            "41-51 d0 0.1 [2] ready 7 miss",
        ],
        ["0 0-7 0>0", "17 17-24 1>0 -0", "34 34-41 0>0 -1"],
    )


def test_lockstep_transfers_overlap_the_members_before_and_blocking_ones_do_not():
    one = world([[[0, 1, 2]]], E=3)
    lockstep = config(scheduler="lockstep", memory=memory(slots=2))
    assert logs(one, lockstep) == (
        ["7-17 d0 0.1 [0] ready 0 miss", "17-27 d0 0.2 [0] ready 0 miss", "27-37 d0 0.3 [0] ready 0 miss"],
        ["0 0-7 0>0", "0 7-14 1>1", "17 17-24 2>0 -0"],
    )
    blocking = replace(lockstep, memory=replace(lockstep.memory, miss="block"))
    assert logs(one, blocking) == (
        ["7-17 d0 0.1 [0] ready 0 miss", "24-34 d0 0.2 [0] ready 0 miss", "41-51 d0 0.3 [0] ready 0 miss"],
        ["0 0-7 0>0", "17 17-24 1>1", "34 34-41 2>0 -0"],
    )


def test_a_prefetch_makes_a_delayed_hit_and_competes_for_the_link():
    tokens = world([[[0], [0]], [[0], [0]]], E=2, step=[0, 1], sequence=[0, 0])
    ahead = config(scheduler="lockstep", memory=memory(slots=1, prefetch="oracle"))
    batches, transfers = logs(tokens, ahead, fixed(3))
    assert transfers == ["0 0-7 0>0", "0 7-14 2>0 ahead"]  # layer 1's expert is asked for when layer 0's is
    assert batches == [
        "7-10 d0 0.1 [0] ready 0 miss",
        "14-17 d0 1.1 [0] ready 10 miss",  # in flight when it was demanded
        "17-20 d0 0.1 [1] hit",
        "20-23 d0 1.1 [1] hit",
    ]


def test_the_host_computes_what_is_absent_beside_the_device():
    tokens = world([[[0]], [[1]]], E=2)
    host = config(queue_size=1, memory=memory(slots=1, miss="host", filled=True, host_factor=3.0))
    batches, transfers = logs(tokens, host, known=Known(popularity=[0, 1]))
    assert batches == ["0-10 d0 0.2 [1] hit", "0-30 d1 0.1 [0] miss"]
    assert transfers == []


def masked_world(candidates, k, scores, E):
    """Return a workload of one layer whose tokens have these candidates with these scores, of which k are selected."""
    plain = world([[row[:k]] for row in candidates], E)
    ranked_TLK = np.array(candidates, np.int16)[:, None, :]
    return replace(plain, candidates_TLK=ranked_TLK, scores_TLK=np.array(scores, np.float32)[:, None, :])


@pytest.mark.parametrize(
    ("miss", "runs", "lost"),
    [
        ("redirect", [(1, 0), (1, 1), (3, 0), (3, 1)], (0.3 / 0.7 + 0.1 / 0.8) / 2),
        ("skip", [(1, 0), (1, 1)], (0.5 / 0.7 + 0.3 / 0.8) / 2),
    ],
)
def test_masked_gating_redirects_to_the_best_resident_candidate_or_skips(miss, runs, lost):
    # Experts 1 and 3 are there. Token 0 selects 0 and 1, token 1 selects 1 and 2: 0 and 2 go to 3, or nowhere.
    two = masked_world([[0, 1, 2, 3], [1, 2, 0, 3]], 2, [[0.5, 0.2, 0.15, 0.2], [0.5, 0.3, 0.1, 0.2]], E=4)
    masked = config(queue_size=2, memory=memory(slots=2, cache="importance", miss=miss, filled=True))
    replay = played(two, masked, known=Known(importance=[0, 2, 0, 1]))
    assert replay.memory.summary["lost_mass"] == pytest.approx(lost)
    assert (replay.memory.counts.accesses, replay.memory.counts.hits) == (4, 2)
    experts = sorted((batch.block - 1, token) for batch in replay.recording.batches for token in batch.members)
    assert experts == runs


@pytest.mark.parametrize(("k", "runs", "lost"), [(1, [2], 1 - 0.2 / 0.4), (3, [2, 3], 1 - 0.3 / 0.9)])
def test_stand_ins_are_taken_best_first_and_each_once(k, runs, lost):
    """Experts 2 and 3 are there. One selection goes to 2; of three (0, 1 and 2) only one finds another, 3."""
    one = masked_world([[0, 1, 2, 3]], k, [[0.4, 0.3, 0.2, 0.1]], E=4)
    masked = config(queue_size=1, memory=memory(slots=2, cache="importance", miss="redirect", filled=True))
    replay = played(one, masked, known=Known(importance=[0, 0, 1, 2]))
    assert sorted(batch.block - 1 for batch in replay.recording.batches) == runs
    assert replay.memory.summary["lost_mass"] == pytest.approx(lost)


def test_a_pass_that_masking_leaves_nothing_moves_on():
    one = masked_world([[0, 1]], 1, [[0.9, 0.1]], E=3)
    masked = config(queue_size=1, memory=memory(slots=1, cache="importance", miss="redirect", filled=True))
    for scheduler in (masked, config(scheduler="lockstep", memory=masked.memory)):
        replay = played(one, scheduler, known=Known(importance=[0, 0, 1]))
        assert (replay.recording.batches, replay.recording.end_ns_P) == ([], [0])
        assert replay.memory.summary["lost_mass"] == 1


def test_the_online_scheduler_brings_what_the_last_period_wanted():
    # Expert 0 is wanted and absent, expert 1 stands in for it. After two passes of 30 ns they change places.
    three = masked_world([[0, 1]] * 3, 1, [[0.6, 0.4]] * 3, E=2)
    online = config(
        scheduler="lockstep", arrivals="closed", in_flight=1, dense=True,
        memory=memory(slots=1, cache="importance", miss="redirect", filled=True, period=2),
    )  # fmt: skip
    batches, transfers = logs(three, online, known=Known(importance=[0, 1]))
    assert transfers == ["60 60-67 0>0 -1 ahead"]
    assert [text for text in batches if " 0.0 " not in text and " 1.0 " not in text] == [
        "10-20 d0 0.2 [0] hit", "40-50 d0 0.2 [1] hit", "70-80 d0 0.1 [2] hit",
    ]  # fmt: skip


def test_the_online_scheduler_weighs_experts_by_the_norm_of_their_weights():
    """Both of expert 0 and 1 are absent; 0 has 2 * 0.5 of the gates, 1 has 2 * 0.3, but weights of twice the norm."""
    three = masked_world([[0, 1, 2]] * 3, 2, [[0.5, 0.3, 0.2]] * 3, E=3)
    online = config(
        scheduler="lockstep", arrivals="closed", in_flight=1,
        memory=memory(slots=1, cache="importance", miss="redirect", filled=True, period=2),
    )  # fmt: skip
    for norms, brought in ((None, 0), ([1.0, 2.0, 1.0], 1)):
        replay = played(three, online, known=Known(importance=[0, 0, 1], expert_norm=norms))
        assert [(each.key, each.victim) for each in replay.memory.transfers] == [(brought, 2)]


@st.composite
def memories(draw, workload, devices=1):
    """Draw a memory that suits a workload."""
    miss = draw(st.sampled_from([each for each in HANDLINGS if each not in MASKED]))
    prefetch = draw(st.sampled_from(sorted(PREFETCHERS)))
    scope = draw(st.sampled_from(["layer", "global"]))
    # every device has to have that many experts: contiguous placement gives each at least E // devices per layer
    most = max(1, workload.experts // devices)
    return MemoryConfig(
        cache=draw(st.sampled_from(sorted(CACHES))), slots=draw(st.integers(1, most)), scope=scope, miss=miss,
        prefetch=prefetch, look_ahead=draw(st.integers(1, 3)) if prefetch == "oracle" else 1,
        filled=miss == "host" or draw(st.booleans()), link=draw(st.sampled_from(LINKS)),
        link_latency_ns=draw(st.sampled_from([0, 1, 5, 40])), link_bytes_per_s=1e12,
    )  # fmt: skip


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


def with_candidates(workload, draws):
    """Return the workload with every expert a candidate: those selected first, then the others in any order."""
    k, rows = workload.experts_TLK.shape[2], []
    for selected in workload.experts_TLK.reshape(-1, k):
        others = [each for each in draws.permutation(workload.experts) if each not in selected]
        rows.append([*selected, *others, *[-1] * (workload.experts - len(others))])
    candidates_TLK = np.array(rows, np.int16).reshape(*workload.experts_TLK.shape[:2], -1)
    scores_TLK = np.where(candidates_TLK >= 0, draws.random(candidates_TLK.shape), 0).astype(np.float32)
    return replace(workload, candidates_TLK=candidates_TLK, scores_TLK=scores_TLK)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_in_every_world_masked_gating_ends_every_pass_and_runs_residents_only(data):
    workload, cost = data.draw(workloads()), data.draw(costs())
    masked = with_candidates(workload, np.random.default_rng(data.draw(st.integers(0, 99))))
    cache = data.draw(st.sampled_from(sorted(set(CACHES) - {"none", "belady"})))
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
    assert causes["compulsory"] >= 0 or kept.filled


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cache": "lur"}, "unknown cache policy 'lur'"),
        ({"miss": "wait"}, "unknown miss handling 'wait'"),
        ({"slots": 0}, "slots is 0, allowed: integers >= 1"),
        ({"miss": "redirect"}, "miss 'redirect' loads nothing by itself"),
        (
            {"miss": "redirect", "filled": True, "period": 2},
            "period needs miss redirect or skip and cache 'importance'",
        ),
        ({"link_bytes_per_s": 0.0}, "link_bytes_per_s is 0.0, allowed: numbers > 0"),
        ({"host_factor": 2.0}, "host_factor has no meaning under miss 'load'"),
        ({"look_ahead": 2}, "look_ahead has no meaning under prefetch 'none'"),
    ],
)
def test_what_cannot_be_is_refused_in_words(fields, message):
    with pytest.raises(InputError, match=message):
        MemoryConfig(**fields)


def test_more_slots_than_experts_and_policies_without_their_knowledge_are_refused():
    two = world([[[0]], [[1]]], E=2)
    with pytest.raises(InputError, match=r"slots is 3, allowed 1\.\.2, the experts that share them"):
        Engine(two, config(memory=memory(slots=3)), TEN)
    with pytest.raises(InputError, match=r"slots is 2, allowed 1\.\.1"):
        Engine(two, config(devices=2, memory=memory(slots=2)), TEN)
    with pytest.raises(InputError, match="which a live run does not have; allowed without"):
        Engine(two, config(memory=memory(cache="belady")), TEN)
    with pytest.raises(InputError, match="filled slots need the popularity"):
        Engine(two, config(memory=memory(filled=True)), TEN)


def test_a_proposal_does_not_replace_what_it_names_itself():
    # Layer 1 of the next pass needs keys 2 and 3; 2 is there already and used longest ago. Bringing 3 takes the slot of
    # neither: with two slots for both layers the prefetch is dropped, and 2 stays.
    passes = world([[[0], [0]], [[1], [0, 1]]], E=2, step=[0, 1], sequence=[0, 0])
    ahead = config(
        scheduler="lockstep", arrivals="closed", in_flight=1,
        memory=memory(slots=2, scope="global", prefetch="oracle", link="free-prefetch"),
    )  # fmt: skip
    replay = played(passes, ahead)
    lost = [each.victim for each in replay.memory.transfers if each.prefetch]
    assert 2 not in lost
