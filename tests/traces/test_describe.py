"""The numbers that `describe` prints, on traces that can be worked out by hand."""

import io
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console
from tiny_traces import random_trace, tiny, tiny_header

from moe_replay.traces.describe import bars, default_k, description, load_LE, reuse, sequence_lengths, short, spread
from moe_replay.traces.errors import InputError
from moe_replay.traces.file import chunks


def printed(trace, width=80, **options):
    console = Console(file=io.StringIO(), width=width)
    console.print(description(trace, "x.trace.parquet", **options))
    return console.file.getvalue()


def test_load_by_hand():
    # layer 0: 0 1 | 1 0 | 3 2    layer 1: 2 3 | 3 - | 0 1
    assert load_LE(tiny()).tolist() == [[2, 2, 1, 1], [1, 1, 1, 2]]
    assert load_LE(tiny(), k=1).tolist() == [[1, 1, 0, 1], [1, 0, 1, 1]]


def test_load_is_a_plain_count(rng):
    trace = random_trace(rng, tokens=200, layers=3, slots=5, experts=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_ROWS", 64)
        found = load_LE(trace, 3)
    assert found.tolist() == [
        [int((trace.experts_TLK[:, layer, :3] == expert).sum()) for expert in range(8)] for layer in range(3)
    ]


def test_spread_by_hand():
    found = spread(np.array([[4, 0, 2, 2], [0, 0, 0, 0]]))
    assert (found.lowest_L.tolist(), found.mean_L.tolist(), found.highest_L.tolist()) == ([0, 0], [2, 0], [4, 0])
    assert found.cv_L[0] == pytest.approx(np.sqrt(2) / 2)
    assert found.max_over_mean_L[0] == 2
    assert np.isnan(found.cv_L[1])


def test_reuse_by_hand():
    # Sequence 7 has the one pair: {0, 1} then {1, 0} share 2 of 2 in layer 0; {2, 3} then {3} share 1 of 1 in layer 1.
    found = reuse(tiny())
    assert found.pairs_L.tolist() == [1, 1]
    assert found.share_L.tolist() == [1, 1]
    # by chance: sum over experts of (load / T)^2, over the mean number of experts per row
    assert found.chance_L == pytest.approx([(4 + 4 + 1 + 1) / 9 / 2, (1 + 1 + 1 + 4) / 9 / (5 / 3)])
    assert reuse(tiny(), k=1).share_L.tolist() == [0, 0]


def test_reuse_follows_sequences_however_they_interleave(rng):
    trace = random_trace(rng, tokens=100, layers=2, slots=3)
    shared, filled, pairs = np.zeros(2), np.zeros(2), 0
    for sequence in trace.sequences_S:
        rows = np.flatnonzero(trace.sequence_T == sequence)
        for before, after in pairwise(rows):
            pairs += 1
            for layer in range(2):
                sets = [{int(e) for e in trace.experts_TLK[row, layer] if e >= 0} for row in (before, after)]
                shared[layer] += len(sets[0] & sets[1])
                filled[layer] += len(sets[1])
    found = reuse(trace)
    assert found.pairs_L.tolist() == [pairs, pairs]
    np.testing.assert_allclose(found.share_L, shared / filled)


def test_independent_tokens_reuse_as_chance_has_it(rng):
    experts_TLK = np.argsort(rng.random((20_000, 2, 4)) * [1, 2, 3, 4], axis=-1)[..., :2].astype(np.int16)
    rows = np.arange(20_000, dtype=np.int32)
    trace = tiny(
        tiny_header(score_kind=None),
        experts_TLK=experts_TLK,
        scores_TLK=None,
        sequence_T=rows // 100,
        position_T=rows % 100,
        step_T=rows // 100,
        phase_T=np.zeros(20_000, np.int8),
        label_S=None,
    )
    found = reuse(trace)
    assert found.share_L == pytest.approx(found.chance_L, abs=4 * 0.5 / np.sqrt(found.pairs_L[0]))


def test_the_models_own_k_is_described():
    assert default_k(random_trace(np.random.default_rng(0), slots=3)) == 3
    trace = tiny(tiny_header(ranked=False))
    assert default_k(trace) == 2
    with pytest.raises(InputError, match="k is 1, allowed only 2: the trace is not ranked"):
        description(trace, "x", 1)
    with pytest.raises(InputError, match=r"k is 3, allowed 1\.\.2"):
        description(tiny(), "x", 3)


def test_sequence_lengths():
    assert sequence_lengths(tiny()).tolist() == [1, 2]


def test_bars_show_the_hottest_at_full_height_and_nothing_as_nothing():
    assert bars(np.array([0, 8, 4, 1])) == "█▄▁ "
    assert bars(np.zeros(3)) == "   "
    assert len(bars(np.arange(64))) == 16


@pytest.mark.parametrize(("number", "text"), [(0, "0"), (99_999, "99,999"), (123_456, "123.5k"), (1.23e9, "1.2G")])
def test_counts_stay_short(number, text):
    assert short(number) == text


def test_what_is_printed():
    lines = [line.strip() for line in printed(tiny(tiny_header(device="[red]chip\x1b[0m"))).splitlines()]
    for expected in (
        "model      tiny: 2 MoE layers x 4 experts, 0 shared",
        "sizes      d_model 8, d_ff 16, expert_bytes 1,024, dtype unknown",
        "gate       topk_renormalised; scores: softmax; ranked",
        "tokens     3 in 2 passes and 2 steps; 2 of 4 experts recorded per token, 2",
        "phases     2 prefill or encode, 1 decode",
        "sequences  2 of 1 to 2 tokens, 1.5 on average",
        "beside     label",
        "device     [red]chip?[0m",
        "1    1     2    2  0.33      1.33    0 1 2  ██▄▄",
        "3    1     1    2  0.35      1.60    3 0 1  █▄▄▄",
        "1    100.0%      55.6%         1.80",
    ):
        assert expected in lines


def test_it_fits_80_columns_without_cutting_numbers(rng):
    text = printed(random_trace(rng, tokens=200, layers=8, slots=6, experts=64))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_sequences_of_one_token_have_no_reuse():
    assert "every sequence has one token" in printed(tiny(sequence_T=np.array([1, 2, 3], np.int32), label_S=None))
