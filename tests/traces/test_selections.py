"""The trace in memory: what it refuses, in which words, and what it can be asked."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_traces import assert_same, random_trace, tiny, tiny_header

from moe_replay.traces.errors import InputError
from moe_replay.traces.file import chunks
from moe_replay.traces.file.joining import Pieces, concatenate
from moe_replay.traces.selections import Trace


def put(name, index, value):
    """The tiny trace's field with one entry changed."""
    values = getattr(tiny(), name).copy()
    values[index] = value
    return {name: values}


LOGIT = tiny_header(score_kind="logit")
UNRANKED = tiny_header(ranked=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("experts_TLK", (2, 1, 0), 4), "row 2, layer 1: expert_0 is 4, allowed 0..3, or -1 if empty (1 such row)"),
        (put("experts_TLK", (0, 0), -2), "row 0, layer 0: expert_0 is -2, allowed 0..3, or -1 if empty (2 such rows)"),
        (
            put("experts_TLK", (0, 1, 0), -1),
            "row 0, layer 1: expert_1 is 3 after an empty slot, allowed -1 (1 such row)",
        ),
        (
            put("experts_TLK", (2, 0, 1), 3),
            "row 2, layer 0: experts are [3, 3], allowed: each at most once (1 such row)",
        ),
        (put("scores_TLK", (2, 1, 1), 2), "row 2, layer 1: score_1 is 2, allowed 0..1 (softmax) (1 such row)"),
        (put("scores_TLK", (2, 1, 1), np.nan), "row 2, layer 1: score_1 is nan, allowed 0..1 (softmax) (1 such row)"),
        (put("scores_TLK", (1, 1, 1), 0.1), "row 1, layer 1: score_1 is 0.1 in an empty slot, allowed 0 (1 such row)"),
        (
            put("scores_TLK", (0, 0, 1), 0.75),
            "row 0, layer 0: score_1 is 0.75, allowed at most 0.5 as before it (1 such row)",
        ),
        (
            put("scores_TLK", (1, 0), 0.75),
            "row 1, layer 0: softmax scores sum to 1.5, allowed at most 1.01 (1 such row)",
        ),
        (put("step_T", 1, 2), "row 2: step is 1, allowed at least 2 as before it (1 such row)"),
        (put("position_T", 0, 1), "row 1: position is 1, allowed above 1 (1 such row)"),
        (put("position_T", 1, -1), "row 1: position is -1, allowed >= 0 (1 such row)"),
        (put("phase_T", 1, 2), "row 1: phase is 2, allowed 0..1 (1 such row)"),
        (put("sequence_T", [0, 1], -7), "row 0: sequence is -7, allowed >= 0 (2 such rows)"),
        (put("label_S", 1, -2), "sequence 7: label is -2, allowed >= -1 (1 such row)"),
        ({"label_S": np.zeros(3, np.int32)}, "label_S has shape (3,), allowed (2,)"),
        ({"prompt_len_S": np.zeros(2)}, "prompt_len_S is float64, allowed int32"),
        (
            {"experts_TLK": np.zeros((3, 2, 5), np.int16)},
            "experts_TLK holds 5 slots, allowed 1..4, the model's experts",
        ),
        ({"experts_TLK": np.zeros((3, 3, 2), np.int16)}, "experts_TLK holds 3 layers, model.layer_ids 2"),
        ({"experts_TLK": np.zeros((0, 2, 2), np.int16)}, "experts_TLK holds 0 tokens, allowed 1..2147483647"),
        ({"experts_TLK": np.zeros((3, 2), np.int16)}, "experts_TLK has 2 dimensions, allowed 3"),
        ({"sequence_T": [7, 7, 5]}, "sequence_T is a list, allowed a NumPy array"),
        ({"phase_T": None}, "phase_T is missing, allowed in every trace"),
        ({"scores_TLK": None}, "scores_TLK and the header's score_kind are allowed only together"),
        (
            {"norm_TL": np.full((3, 2), np.inf, np.float32)},
            "row 0: norm is [inf, inf], allowed finite numbers >= 0 (3 such rows)",
        ),
        ({"domain_S": np.array(["law", "\ud800"])}, "domain has '\\ud800', allowed Unicode text"),
        (
            put("scores_TLK", (0, 0, 0), np.inf) | {"header": LOGIT},
            "row 0, layer 0: score_0 is inf, allowed finite numbers (logit) (1 such row)",
        ),
    ],
)
def test_what_is_wrong_is_said(change, message):
    with pytest.raises(InputError) as error:
        tiny(**change)
    assert str(error.value) == message


def test_rows_of_a_pass_stand_together():
    apart = {"sequence_T": np.array([7, 5, 7], np.int32), "step_T": np.zeros(3, np.int32)}
    message = "row 2: sequence is 7, which had rows in step 0 before, allowed: rows of a pass together (1 such row)"
    with pytest.raises(InputError) as error:
        tiny(**apart)
    assert str(error.value) == message
    assert len(tiny(**apart | {"step_T": np.array([0, 0, 1], np.int32)}).passes) == 3  # another step is another pass


def test_what_other_kinds_of_scores_allow():
    tiny(header=LOGIT, **put("scores_TLK", (slice(None), slice(None), 0), 40))
    tiny(header=LOGIT, scores_TLK=np.where(tiny().experts_TLK >= 0, np.float32(-3), np.float32(0)))
    tiny(header=tiny_header(score_kind="sigmoid"), **put("scores_TLK", (1, 0), 0.75))
    tiny(header=UNRANKED, **put("scores_TLK", (0, 0), (0.25, 0.5)))


def test_a_bad_entry_is_found_and_counted_across_chunks(rng):
    trace = random_trace(rng, tokens=1000, layers=3, slots=4, optional=False)
    experts_TLK = trace.experts_TLK.copy()
    bad = rng.choice(np.arange(200, 1000), 40, replace=False)
    experts_TLK[bad, 1, 0] = 99
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_ROWS", 96)
        with pytest.raises(InputError) as error:
            replace(trace, experts_TLK=experts_TLK)
    assert str(error.value) == (
        f"row {bad.min()}, layer 1: expert_0 is 99, allowed 0..7, or -1 if empty (40 such rows)"
    )


@pytest.mark.parametrize("slots", [2, 23, 24, 25, 40])
def test_both_ways_to_find_a_repeated_expert_agree_with_sets(rng, slots):
    trace = random_trace(rng, tokens=30, layers=2, slots=slots, experts=64, ranked=False, score_kind=None)
    experts_TLK = trace.experts_TLK.copy()
    filled = np.argwhere((experts_TLK >= 0).sum(-1) > 1)
    for token, layer in filled[rng.choice(len(filled), 5, replace=False)]:
        experts_TLK[token, layer, 1] = experts_TLK[token, layer, 0]
    repeated = [len(set(row[row >= 0])) < (row >= 0).sum() for row in experts_TLK.reshape(-1, slots)]
    with pytest.raises(InputError, match=rf"each at most once \({sum(repeated)} such row") as error:
        replace(trace, experts_TLK=experts_TLK)
    token, layer = divmod(repeated.index(True), 2)
    assert str(error.value).startswith(f"row {token}, layer {layer}: ")


def test_sizes_sequences_and_passes():
    trace = tiny()
    assert (trace.T, trace.L, trace.K, trace.E, trace.S) == (3, 2, 2, 4, 2)
    assert trace.sequences_S.tolist() == [5, 7]
    passes = trace.passes
    assert (passes.first_row_P.tolist(), passes.last_row_P.tolist()) == ([0, 2], [1, 2])
    assert (passes.sequence_P.tolist(), passes.step_P.tolist()) == ([7, 5], [0, 1])


def test_a_trace_cannot_be_written_to():
    fields = {"sequence_T": np.array([7, 7, 5], np.int32)}
    trace = tiny(**fields)
    with pytest.raises(ValueError, match="read-only"):
        trace.sequence_T[0] = 1
    assert fields["sequence_T"].flags.writeable  # the caller's own array is left as it was


def test_at_k_takes_the_first_slots():
    trace = tiny().at_k(1)
    assert trace.experts_TLK.tolist() == [[[0], [2]], [[1], [3]], [[3], [0]]]
    assert trace.scores_TLK.shape == (3, 2, 1)
    assert trace.label_S.tolist() == [50, 70]
    assert_same(tiny().at_k(2), tiny())


@pytest.mark.parametrize(
    ("header", "k", "message"),
    [
        (None, 0, "k is 0, allowed 1..2, the experts recorded per token and layer"),
        (None, 3, "k is 3, allowed 1..2, the experts recorded per token and layer"),
        (UNRANKED, 1, "k is 1, allowed only 2: the trace is not ranked"),
    ],
)
def test_at_k_refuses_what_was_not_recorded(header, k, message):
    with pytest.raises(InputError) as error:
        tiny(header).at_k(k)
    assert str(error.value) == message


def test_rows_keep_what_is_known_of_their_sequences():
    part = tiny().rows(2, 3)
    assert (part.sequence_T.tolist(), part.label_S.tolist(), part.T) == ([5], [50], 1)


def test_neighbouring_rows_are_a_whole_trace_though_nothing_is_checked_again(rng):
    """They are what a checked trace of the same rows is, own numbers of sequences and passes included."""
    trace = random_trace(rng)
    assert trace.digest  # and with it numbers of the whole, which its parts must not take over
    assert len(trace.passes) > 5
    for start, stop in ((0, 40), (3, 17), (39, 40), (7, 8), (5, 33)):
        part, wanted = trace.rows(start, stop), trace.only(np.isin(np.arange(40), np.arange(start, stop)))
        assert_same(part, wanted)
        assert (part.digest, part.S, len(part.passes)) == (wanted.digest, wanted.S, len(wanted.passes))
        assert not any(getattr(part, name).flags.writeable for name in part.present)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=12))
def test_passes_in_pieces_are_found_whatever_their_order(steps):
    """The quick look at neighbours refuses what the keys of all passes say, and nothing else."""
    step_T, sequence_T = (
        np.array(each, np.int32) for each in zip(*sorted(steps, key=lambda each: each[0]), strict=True)
    )
    changes_T = np.append(True, (np.diff(step_T) != 0) | (np.diff(sequence_T) != 0))
    passes = list(zip(step_T[changes_T].tolist(), sequence_T[changes_T].tolist(), strict=True))
    length = len(step_T)
    fields = {
        "experts_TLK": np.zeros((length, 2, 1), np.int16), "sequence_T": sequence_T, "step_T": step_T,
        "position_T": np.arange(length, dtype=np.int32), "phase_T": np.zeros(length, np.int8),
    }  # fmt: skip
    header = tiny_header(score_kind=None)
    if len(set(passes)) == len(passes):
        assert len(Trace(header=header, **fields).passes) == len(passes)
    else:
        with pytest.raises(InputError, match="rows of a pass together"):
            Trace(header=header, **fields)


def test_the_digest_tells_recorded_choices_apart_and_nothing_else():
    digests = {
        tiny().digest,
        tiny(**put("experts_TLK", (0, 0, 1), 2)).digest,
        tiny(**put("scores_TLK", (0, 0, 1), 0.125)).digest,
        tiny(**put("position_T", 2, 8)).digest,
        tiny(label_S=None).digest,
        tiny(label_S=None, prediction_S=tiny().label_S).digest,
        tiny(header=LOGIT).digest,
        tiny(domain_S=np.array(["a", "b"])).digest,
        tiny(domain_S=np.array(["b", "a"])).digest,
    }
    assert len(digests) == 9
    assert tiny(header=tiny_header(device="gpu", provenance={"seed": 1}, notes={"x": 1})).digest == tiny().digest
    wide = np.array(["a", "b"], dtype="<U20")
    assert tiny(domain_S=wide).digest == tiny(domain_S=np.array(["a", "b"])).digest


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 50), cuts=st.lists(st.integers(1, 39), max_size=6), seed=st.integers(0, 9))
def test_cutting_and_joining_changes_nothing(size, cuts, seed):
    trace = random_trace(np.random.default_rng(seed))
    bounds = [0, *sorted(set(cuts)), trace.T]
    pieces = Pieces(size)
    found = [piece for start, stop in pairwise(bounds) for piece in pieces.add(trace.rows(start, stop))]
    found += pieces.rest()
    assert [piece.T for piece in found[:-1]] == [size] * (len(found) - 1)
    assert 1 <= found[-1].T <= size
    assert_same(concatenate(found), trace)


def test_parts_that_contradict_each_other_are_refused():
    with pytest.raises(InputError) as error:
        concatenate([tiny().rows(0, 1), replace(tiny(), label_S=np.array([50, 71], np.int32)).rows(1, 2)])
    assert str(error.value) == "sequence 7: label is both 70 and 71, allowed one value per sequence"
    with pytest.raises(InputError, match="differ in header, in columns or in K"):
        concatenate([tiny(), tiny().at_k(1)])
