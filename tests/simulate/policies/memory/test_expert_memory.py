"""Expert memory with time: whole logs worked out by hand, in the lines of `memory_worlds.logs`."""

from dataclasses import replace

import pytest
from equality import assert_equal
from memory_worlds import TEN, logs, memory, played
from worlds import config, fixed, world

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.engines.simpy_engine import Engine
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.errors import InputError


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


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cache": "lur"}, "unknown cache policy 'lur'"),
        ({"miss": "wait"}, "unknown miss handling 'wait'"),
        ({"slots": 0}, "slots is 0, allowed: integers >= 1"),
        ({"miss": "redirect"}, "miss 'redirect' loads nothing by itself"),
        ({"miss": "skip", "prefetch": "popularity"}, "miss 'skip' needs filled slots or a period: a prefetcher sees"),
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


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("scheduler", [{"scheduler": "lockstep"}, {"queue_size": 1}], ids=str)
def test_each_device_keeps_its_own_most_popular_experts_for_good(scheduler, scope):
    """Experts 0 and 1 are on device 0, 2 and 3 on device 1: the most popular of all takes no slot of the other."""
    passes = world([[[0, 3]], [[1, 2]], [[0, 3]]], E=4, sequence=[0, 0, 0], step=[0, 1, 2])
    kept = memory(cache="static", slots=1, scope=scope, miss="host", filled=True)
    run = config(**scheduler, arrivals="closed", in_flight=1, devices=2, memory=kept)
    known = Known(popularity=[9, 8, 1, 2])
    batches, _ = logs(passes, run, known=known)
    hits = [line.split()[2] for line in batches if line.endswith("hit")]
    assert hits == ["0.1", "0.4", "0.1", "0.4"]
    assert_equal(passes, run, TEN, known)
    on_demand = replace(run, memory=memory(cache="static", slots=1, scope=scope))
    assert played(passes, on_demand, known=known).memory.counts.hits == 2
    assert_equal(passes, on_demand, TEN, known)
