"""Rows that are no data are told from routes, however skewed these are; `check` refuses a trace that holds some."""

from dataclasses import replace

import numpy as np
import pytest
from importing import selections

from moe_replay.traces.describe import reuse
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.new_traces import synthetic, trace_from_arrays
from moe_replay.traces.no_data import check_data, filled_rows, padding_tokens

SHAPES = [(26, 6, 64), (3, 4, 32), (2, 2, 8), (6, 8, 384), (48, 8, 128), (5, 22, 512)]  # layers, k, experts


@pytest.mark.parametrize(("layers", "k", "experts"), SHAPES)
def test_padding_is_found_wherever_it_is(rng, layers, k, experts):
    rows = selections(rng, 300, layers, k, experts, np.int16)
    assert not padding_tokens(rows, experts).any()
    rows[270:] = np.arange(k)
    if layers * k > 30:  # a token then says enough for itself
        rows[[3, 77, 150]] = np.arange(k)
    marked_T = padding_tokens(rows, experts)
    assert np.flatnonzero(marked_T).tolist() == [3, 77, 150] * (layers * k > 30) + list(range(270, 300))
    assert not padding_tokens(rows[:, ::-1] * 0 + np.arange(1, k + 1, dtype=np.int16), experts + 1).any()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("layers", "k", "experts"), [(1, 2, 4), (2, 2, 8), (4, 2, 16), (4, 4, 16), (8, 2, 8)])
def test_hot_experts_and_reuse_are_no_padding(layers, k, experts, seed):
    """The hottest experts are 0..k-1 in every layer, in this order, and a token repeats the one before it."""
    rng = np.random.default_rng(seed)
    weight_E = np.arange(1, experts + 1) ** -1.5
    drawn = np.argsort(-np.log(rng.random((3000, layers, experts))) / weight_E, axis=2)[..., :k].astype(np.int16)
    again_T = rng.random(3000) < 0.5
    source_T = np.maximum.accumulate(np.where(again_T, 0, np.arange(3000)))
    assert not padding_tokens(np.sort(drawn[source_T], axis=2), experts).any()
    assert not padding_tokens(drawn[source_T], experts).any()


def test_all_experts_in_order_say_nothing():
    rows = np.tile(np.arange(4, dtype=np.int16), (50, 3, 1))
    assert not padding_tokens(rows, 4).any()
    assert padding_tokens(rows, 64).all()


@pytest.mark.parametrize("filling", [0, 255])
def test_one_id_in_every_slot_is_no_route(rng, filling):
    rows = selections(rng, 40, 3, 4, 256, np.int16)
    rows[5, 1], rows[9] = filling, filling
    marked_TL = filled_rows(rows, 256)
    assert np.argwhere(marked_TL).tolist() == [[5, 1], [9, 0], [9, 1], [9, 2]]
    rows[:, :, 0] = filling  # one slot of several is a hot expert
    rows[[5, 9], :, 1:] = [1, 2, 3]
    assert not filled_rows(rows, 256).any()


def test_check_refuses_padding_and_believes_an_import_that_was_told(rng, traces, tmp_path):
    rows = selections(rng, 60, 4, 4, 64, np.int16)
    rows[50:] = np.arange(4)
    with pytest.raises(
        InputError, match=r"row 50: experts are 0..3 in this order in every layer \(10 such rows\): padding"
    ):
        trace_from_arrays(rows, [0, 60], experts=64, phase="prefill")
    trace = trace_from_arrays(rows[:50], [0, 50], experts=64, phase="prefill")
    check_data(trace)
    padded = replace(trace, experts_TLK=np.concatenate([rows[:30], rows[50:], rows[40:50]]))
    with pytest.raises(InputError, match=r"row 30 \(sequence 0, position 30\) is no data: 10 of 50 tokens hold 0..3"):
        check_data(padded)
    check_data(replace(padded, header=replace(padded.header, notes={"unrouted": "real"})))
    save_trace(padded, tmp_path / "x.trace.parquet")
    status, _, said = traces("check x.trace.parquet")
    assert status == 2
    assert "10 of 50 tokens hold 0..3 in every slot of every layer, as padding does" in said


@pytest.mark.parametrize("k", [1, 2])
def test_synthetic_traces_pass(k):
    check_data(synthetic(layers=2, experts=4, k=k, alpha=2.5, reuse=0.9, sequences=200))


def test_a_token_whose_position_leaps_has_none_before_it(rng):
    """As where tokens between were left out; one that is computed again still has."""
    trace = trace_from_arrays(selections(rng, 12, 2, 2, 8), [0, 12], experts=8, phase="decode")
    assert reuse(trace).pairs_L.tolist() == [11, 11]
    cut = trace.only(~np.isin(np.arange(12), [4, 5, 9]))
    assert reuse(cut).pairs_L.tolist() == [3 + 2 + 1] * 2
    again = replace(trace, position_T=np.array([0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9], np.int32))
    assert reuse(again).pairs_L.tolist() == [11, 11]
