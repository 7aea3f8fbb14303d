"""Where counts come from and how they are told: a toy trace's streams, groups, worth of experts, rows, refusals."""

from dataclasses import replace

import numpy as np
import pytest

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.misses.access_streams import flat_streams, group_stretches
from moe_replay.simulate.misses.group_misses import group_counts
from moe_replay.simulate.misses.miss_tables import MissPlan, miss_rows
from moe_replay.simulate.policies.memory.expert_worth import EXPERT_NORMS, importance_LE, known_from, known_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.selections import Trace


def toy_trace():
    """Two sequences of two and one tokens; two layers of three; a decode step of both after their prefills.

    Layer 0 selects 0 1 | 1 - | 2 0 | 0 1 | 2 1 (- is an empty slot), layer 1 always 2 1.
    """
    experts_TLK = np.array([[[0, 1]], [[1, -1]], [[2, 0]], [[0, 1]], [[2, 1]]], np.int16)
    experts_TLK = np.concatenate([experts_TLK, np.tile(np.array([2, 1], np.int16), (5, 1, 1))], axis=1)
    model = ModelInfo(name="toy", experts=3, used_k=2, layer_ids=(4, 9))
    header = Header(model=model, gate_rule="top-k", score_kind="softmax", ranked=True, device="none",
                    data={"name": None, "digest": None, "note": None})  # fmt: skip
    scores_TLK = np.where(experts_TLK >= 0, np.array([0.5, 0.25], np.float32), np.float32(0))
    return Trace(
        header=header, experts_TLK=experts_TLK, scores_TLK=scores_TLK.astype(np.float32),
        sequence_T=np.array([0, 0, 1, 0, 1], np.int32), position_T=np.array([0, 1, 0, 2, 1], np.int32),
        step_T=np.array([0, 0, 0, 1, 1], np.int32), phase_T=np.array([0, 0, 0, 1, 1], np.int8),
        norm_TL=np.array([[1, 1], [2, 1], [4, 1], [8, 1], [16, 1]], np.float32),
    )  # fmt: skip


def test_flat_streams_of_a_toy():
    first, second = flat_streams(toy_trace(), None, "layer")
    assert (first.expert_A.tolist(), first.start_S.tolist()) == ([0, 1, 1, 2, 0, 0, 1, 2, 1], [0])
    assert (second.stretches(), second.keys, second.layer) == ([[5, 4] * 5], range(3, 6), 1)
    (both,) = flat_streams(toy_trace(), None, "global")
    assert both.stretches() == [[0, 1, 5, 4, 1, 5, 4, 2, 0, 5, 4, 0, 1, 5, 4, 2, 1, 5, 4]]
    alone, _ = flat_streams(toy_trace(), None, "layer", emptied="sequence")
    assert alone.stretches() == [[0, 1, 1, 0, 1], [2, 0, 2, 1]]
    assert flat_streams(toy_trace(), 1, "layer")[0].expert_A.tolist() == [0, 1, 2, 0, 2]


def test_groups_of_a_toy():
    (groups,) = group_stretches(toy_trace(), None)
    assert groups == [
        (0, 0, (0, 1)), (1, 0, (4, 5)), (0, 1, (0, 2)), (1, 1, (4, 5)),
        (0, 0, (0, 1)), (1, 0, (4, 5)), (0, 1, (1, 2)), (1, 1, (4, 5)),
    ]  # fmt: skip
    (steps,) = group_stretches(toy_trace(), None, "step")
    assert steps == [(0, -1, (0, 1, 2)), (1, -1, (4, 5)), (0, -1, (0, 1, 2)), (1, -1, (4, 5))]
    first, second = group_stretches(toy_trace(), None, emptied="sequence")
    assert first == [groups[i] for i in (0, 1, 4, 5)]
    assert second == [groups[i] for i in (2, 3, 6, 7)]


def test_rows_of_a_toy():
    """Layer 0 in groups 01 02 01 12 with LRU and two slots: 2 takes 1's slot, 1 takes 2's, 2 takes 0's."""
    trace = toy_trace()
    rows = miss_rows(trace, MissPlan(("lru",), (2,), mode="group"), known_from(trace, None, set()))
    assert [(row["layer"], row["accesses"], row["misses"]) for row in rows] == [("all", 16, 7), (4, 8, 5), (9, 8, 2)]
    rows = miss_rows(trace, MissPlan(("lru",), mode="group", scope="global"), known_from(trace, None, set()))
    assert [(row["slots"], row["misses"]) for row in rows][-1] == (6, 5)
    assert {row["layer"] for row in rows} == {"all"}


def test_importance_of_a_toy():
    """Norm times score: expert 0 of layer 0 is first for tokens 0 and 3, second for token 2: (1 + 8) / 2 + 4 / 4."""
    np.testing.assert_allclose(importance_LE(toy_trace()), [[5.5, 7.25, 10.0], [0.0, 1.25, 2.5]])
    np.testing.assert_allclose(importance_LE(toy_trace(), 1), [[4.5, 1.0, 10.0], [0.0, 0.0, 2.5]])
    assert known_from(toy_trace(), None, {"popularity"}).popularity == [3, 4, 2, 0, 5, 5]


def noted(norm_LE):
    """The toy trace, whose notes tell the norms of its experts' weights."""
    trace = toy_trace()
    return replace(trace, header=replace(trace.header, notes={EXPERT_NORMS: norm_LE}))


def test_importance_counts_the_norm_of_weights_where_a_trace_tells_it():
    trace = noted([[2, 1, 0], [1, 1, 4]])
    np.testing.assert_allclose(importance_LE(trace), [[11.0, 7.25, 0.0], [0.0, 1.25, 10.0]])
    swapping = MemoryConfig(cache="importance", miss="redirect", filled=True, period=3)
    assert known_of(trace, None, [swapping]).expert_norm == [2, 1, 0, 1, 1, 4]
    assert known_of(toy_trace(), None, [swapping]).expert_norm is None
    assert known_of(trace, None, [replace(swapping, period=None)]).expert_norm is None
    for impossible in ([[1, 1, 1]], [[1, 1, -1], [1, 1, 1]], [[1, 1], [1, 1, 1]], "x", [["a", 1, 1], [1, 1, 1]]):
        with pytest.raises(InputError, match="allowed 2 lists of 3 numbers >= 0"):
            importance_LE(noted(impossible))


def test_refusals():
    trace = toy_trace()
    nothing = known_from(trace, None, set())
    for plan, line in (
        (MissPlan(("lru",), (4,)), "slots is 4, allowed 1..3, the experts that share them"),
        (MissPlan(("lru",), (0,)), "slots is 0, allowed 1..3, the experts that share them"),
        (MissPlan(("static",)), "cache policy 'static' needs the popularity of every expert; allowed without"),
        (MissPlan(("lru",), mode="group", grouping="batch"), "unknown grouping 'batch'; known: pass, step"),
        (
            MissPlan(("lru",), mode="group", grouping="step", emptied="sequence"),
            "not allowed for groups of a step",
        ),
        (MissPlan(("lru",), k=3), "k is 3, allowed 1..2"),
    ):
        with pytest.raises(InputError) as refused:
            miss_rows(trace, plan, nothing)
        assert line in str(refused.value)
    for options, line in (
        ({"mode": "timed"}, "unknown mode 'timed'; known: flat, group"),
        (
            {"prefetchers": ("oracle",), "mode": "flat"},
            "'oracle' needs groups; allowed in mode 'group' only",
        ),
        ({"prefetchers": ("psychic",), "mode": "group"}, "unknown prefetcher 'psychic'"),
    ):
        with pytest.raises(InputError) as refused:
            MissPlan(("lru",), **options)
        assert line in str(refused.value)
    with pytest.raises(InputError, match="group mode needs groups"):
        group_counts(None, "lru", 2, "layer", "none", nothing, 0)
