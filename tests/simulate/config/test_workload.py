"""Workloads: passes in the order of their sequences, cycled with new shuffles, cut to k."""

import numpy as np
import pytest
from worlds import world

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload, trace_workload
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.selections import Trace


def decode_world(**more):
    """Two sequences, prompts of 2 and 1 tokens, then one token each in two decode steps; rows are in step order."""
    return world([[[0]]] * 7, 1, [5, 5, 9, 5, 9, 5, 9], [0, 0, 0, 1, 1, 2, 2], **more)


def test_passes_stand_sequence_by_sequence_in_step_order():
    workload = decode_world()
    assert workload.sequence_P.tolist() == [5, 5, 5, 9, 9, 9]
    assert workload.step_P.tolist() == [0, 1, 2, 0, 1, 2]
    assert workload.first_row_P.tolist() == [0, 3, 5, 2, 4, 6]
    assert workload.last_row_P.tolist() == [1, 3, 5, 2, 4, 6]
    assert workload.tokens_P.tolist() == [2, 1, 1, 1, 1, 1]
    assert workload.token_offset_P.tolist() == [0, 2, 3, 4, 5, 6]
    assert workload.row_N.tolist() == [0, 1, 3, 5, 2, 4, 6]
    assert workload.pass_N.tolist() == [0, 0, 1, 2, 3, 4, 5]
    assert workload.group_P.tolist() == [0, 0, 0, 1, 1, 1]
    assert workload.first_pass_G.tolist() == [0, 3]


def test_a_trace_is_cycled_until_enough_sequences_are_served():
    workload = decode_world(sequences=3)
    assert workload.sequence_P.tolist() == [5, 5, 5, 9, 9, 9, 5, 5, 5]
    assert workload.round_P.tolist() == [0] * 6 + [1] * 3
    assert workload.group_P.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert workload.token_offset_P.tolist() == [0, 2, 3, 4, 5, 6, 7, 9, 10]


def test_fewer_sequences_than_the_trace_has_are_its_first_ones():
    assert decode_world(sequences=1).sequence_P.tolist() == [5, 5, 5]


def shuffled(seed, sequences, available=20):
    workload = world([[[0]]] * available, 1, sequences=sequences, rng=np.random.default_rng(seed))
    return workload.sequence_P.tolist()


def test_every_round_is_a_new_shuffle_of_all_sequences():
    served = shuffled(0, 60)
    rounds = [served[:20], served[20:40], served[40:]]
    assert all(sorted(each) == list(range(20)) for each in rounds)
    assert rounds[0] != rounds[1] != rounds[2] != list(range(20))


def test_a_longer_run_of_the_same_seed_begins_with_the_shorter_one():
    assert shuffled(3, 50)[:30] == shuffled(3, 30)
    assert shuffled(3, 30) != shuffled(4, 30)


def test_selections_are_counted_without_empty_slots():
    workload = world([[[0, 1], []], [[2], [1]], [[0], [0, 2]]], 3, sequence=[0, 0, 1])
    assert workload.selections_PL.tolist() == [[3, 1], [1, 2]]


def test_rows_of_a_pass_that_do_not_stand_together_are_refused():
    with pytest.raises(InputError, match="sequence 0 in step 0 are not together"):
        world([[[0]]] * 3, 1, sequence=[0, 1, 0])


def test_an_empty_trace_is_refused():
    none = np.zeros(0, np.int32)
    with pytest.raises(InputError, match="no rows"):
        build_workload(np.zeros((0, 1, 1), np.int16), none, none, 1)


def toy_trace():
    """Three sequences of one token each, all four experts recorded in rank order; the model uses two."""
    experts_TLK = np.array([[[2, 0, 1, 3]], [[3, 2, 1, 0]], [[0, 1, 2, 3]]], np.int16)
    model = ModelInfo(name="toy", experts=4, used_k=2, layer_ids=(0,))
    header = Header(
        model=model, gate_rule="top-k", score_kind=None, ranked=True, device="none",
        data={"name": None, "digest": None, "note": None},
    )  # fmt: skip
    ids = np.arange(3, dtype=np.int32)
    zeros = np.zeros(3, np.int32)
    return Trace(
        header=header, experts_TLK=experts_TLK, sequence_T=ids, position_T=zeros, step_T=zeros,
        phase_T=np.zeros(3, np.int8),
    )  # fmt: skip


def test_a_trace_is_replayed_at_the_models_own_k_or_at_another():
    assert trace_workload(toy_trace(), RunConfig()).experts_TLK.tolist() == [[[2, 0]], [[3, 2]], [[0, 1]]]
    assert trace_workload(toy_trace(), RunConfig(k=1)).experts_TLK.tolist() == [[[2]], [[3]], [[0]]]
    with pytest.raises(InputError, match="k is 5"):
        trace_workload(toy_trace(), RunConfig(k=5))


def test_the_seed_permutes_and_no_seed_keeps_the_order():
    assert trace_workload(toy_trace(), RunConfig(sequences=6)).sequence_P.tolist() == [0, 1, 2, 0, 1, 2]
    orders = {tuple(trace_workload(toy_trace(), RunConfig(sequences=6, seed=seed)).sequence_P) for seed in range(5)}
    assert len(orders) > 1
