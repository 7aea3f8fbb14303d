"""Masked gating and SwapMoE's online scheduler: small runs worked out by hand."""

import pytest
from memory_worlds import logs, masked_world, memory, played
from worlds import config

from moe_replay.simulate.policies.memory.memory_setup import Known


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
