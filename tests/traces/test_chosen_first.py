"""Traces that hold the chosen experts first and what was left behind them: only the chosen ones ever count."""

import io
from dataclasses import replace

import numpy as np
import pytest
from importing import imported, refusal
from rich.console import Console
from tiny_traces import assert_same

from moe_replay.simulate.interface.miss_counting import count_misses
from moe_replay.simulate.interface.replaying import replay
from moe_replay.simulate.placing.recorded_batches import token_batches
from moe_replay.simulate.policies.memory.expert_worth import importance_LE
from moe_replay.simulate.serving.step_clocks import lockstep_clock
from moe_replay.traces.describe import default_k, description, load_LE, reuse, slots
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.exporters.exporter_names import export
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.regating import regate
from moe_replay.traces.routes import weightless_text
from moe_replay.traces.selections import Trace

EXPERTS, CHOSEN = 8, 2


@pytest.fixture
def chosen(rng):
    """What a router with a correction bias chose, not in the order of its scores: 30 tokens, two layers, 2 of 8."""
    tokens = 30
    scores_TLE = rng.random((tokens, 2, EXPERTS), dtype=np.float32)
    order = np.argsort(-(scores_TLE + rng.normal(0, 0.5, EXPERTS)), axis=2)[:, :, :CHOSEN]
    model = ModelInfo(name="biased", experts=EXPERTS, used_k=CHOSEN, layer_ids=(1, 2))
    header = Header(
        model=model, gate_rule="the router's own", score_kind="sigmoid", ranked=False,
        data={"name": "made", "digest": None, "note": None}, device="none", notes={"scores": scores_TLE.tolist()},
    )  # fmt: skip
    return Trace(
        header=header, experts_TLK=order.astype(np.int16), scores_TLK=np.take_along_axis(scores_TLE, order, 2),
        sequence_T=np.repeat(np.arange(6), 5).astype(np.int32), position_T=np.tile(np.arange(5), 6).astype(np.int32),
        step_T=np.arange(tokens, dtype=np.int32), phase_T=np.zeros(tokens, np.int8),
        norm_TL=rng.random((tokens, 2), dtype=np.float32),
    )  # fmt: skip


@pytest.fixture
def whole(chosen):
    """The same with all experts: those left behind the chosen, best score first."""
    scores_TLE = np.array(chosen.header.notes["scores"], np.float32)
    left = scores_TLE.copy()
    np.put_along_axis(left, chosen.experts_TLK.astype(np.int64), -1, 2)
    others = np.argsort(-left, axis=2, kind="stable")[:, :, : EXPERTS - CHOSEN]
    experts_TLK = np.concatenate([chosen.experts_TLK, others.astype(np.int16)], 2)
    return replace(
        chosen, header=replace(chosen.header, chosen_first=True), experts_TLK=experts_TLK,
        scores_TLK=np.take_along_axis(scores_TLE, experts_TLK.astype(np.int64), 2),
    )  # fmt: skip


def test_only_the_models_own_k_may_be_asked_for(whole, chosen):
    assert list(whole.ks) == [CHOSEN] == [default_k(whole)]
    assert_same(whole.at_k(CHOSEN), chosen)
    assert whole.at_k(CHOSEN).digest == chosen.digest != whole.digest
    for k in (1, 3, EXPERTS):
        for ask in (whole.at_k, lambda k: slots(whole, k), lambda k: replay(whole, (1e-5, 1e-6), k=k)):
            with pytest.raises(
                InputError, match=f"k is {k}, allowed only 2, its router's choice: the trace is not ranked"
            ):
                ask(k)
    for rule in (1, CHOSEN):
        with pytest.raises(InputError, match=rf"cannot be re-gated to k={rule}: the trace is not ranked"):
            regate(whole, rule)


def printed(content):
    console = Console(file=io.StringIO(), width=200)
    console.print(content)
    return console.file.getvalue()


def test_what_was_not_chosen_is_no_load_no_reuse_and_no_access(whole, chosen):
    np.testing.assert_array_equal(load_LE(whole), load_LE(chosen))
    np.testing.assert_array_equal(reuse(whole).share_L, reuse(chosen).share_L)
    np.testing.assert_array_equal(importance_LE(whole), importance_LE(chosen))
    batches, plain = token_batches(whole, 4), token_batches(chosen, 4)
    np.testing.assert_array_equal(batches.profile.load_BLE, plain.profile.load_BLE)
    told = printed(description(whole, "x"))
    assert "not ranked: the 2 chosen first, then the others by score" in told
    assert [line for line in told.splitlines() if "▇" in line or "█" in line] == [
        line for line in printed(description(chosen, "x")).splitlines() if "▇" in line or "█" in line
    ]


def test_it_replays_as_the_trace_of_the_chosen_alone(whole, chosen):
    one, other = (replay(each, (1e-5, 1e-6)).summary() for each in (whole, chosen))
    assert one == other
    one, other = (count_misses(each, slots=(2, 4)).to_pandas() for each in (whole, chosen))
    assert one.equals(other)
    step = [(0, np.arange(7))]
    times = [lockstep_clock(each, lambda *_: _[-1], True)(step) for each in (whole, chosen)]
    assert times[0] == times[1]


def test_a_trace_that_does_not_say_which_ran_is_refused_by_serving_too(whole):
    """Taking the first `used_k` slots of an order that nobody vouches for would be a guess."""
    unknown = replace(whole, header=replace(whole.header, chosen_first=False))
    with pytest.raises(InputError, match="k is 2, allowed only 8: the trace is not ranked"):
        lockstep_clock(unknown, lambda *_: 1, True)


def test_experts_without_weights_are_told_of_the_chosen_alone(whole):
    model = replace(whole.header.model, zero_experts=1)
    told = [
        weightless_text(replace(each, header=replace(each.header, model=model))) for each in (whole, whole.at_k(CHOSEN))
    ]
    assert told[0] == told[1]
    assert f"of {whole.T * whole.L * CHOSEN} selections" in told[0]


def test_what_is_left_never_rises_and_flags_fit_what_is_there(whole, chosen):
    scores_TLK = whole.scores_TLK.copy()
    scores_TLK[4, 1, 3:5] = 0.1, 0.9
    with pytest.raises(InputError, match=r"row 4, layer 1: score_4 is 0\.9, allowed at most 0\.1 as before it"):
        replace(whole, scores_TLK=scores_TLK)
    with pytest.raises(InputError, match="chosen_first: 2 slots hold no expert behind the 2 chosen"):
        replace(chosen, header=whole.header)
    with pytest.raises(InputError, match="chosen_first is true beside ranked, allowed only where ranked is false"):
        replace(whole.header, ranked=True)
    with pytest.raises(InputError, match="chosen_first is 1, allowed true or false"):
        replace(whole.header, chosen_first=1)


def test_files_keep_it_and_earlier_headers_read_as_before(whole, chosen, tmp_path):
    save_trace(whole, tmp_path / "x.trace.parquet")
    assert_same(load_trace(tmp_path / "x.trace.parquet"), whole)
    assert "chosen_first" not in chosen.header.to_json()
    assert Header.from_json(chosen.header.to_json()) == chosen.header


def test_an_export_brings_it_back_and_counts_are_of_the_chosen(whole, chosen, tmp_path):
    export("npz", Subject(whole), tmp_path / "x.npz")
    assert imported("npz", tmp_path / "x.npz", experts=EXPERTS).digest == whole.digest
    np.testing.assert_array_equal(Subject(whole).load_LE, Subject(chosen).load_LE)
    options = {"experts": EXPERTS, "phase": "prefill", "score_kind": "sigmoid", "unrouted": "keep"}
    again = imported("npz", tmp_path / "x.npz", **options)  # read as arrays of one's own
    assert (list(again.ks), again.header.model.used_k) == ([CHOSEN], CHOSEN)


def test_arrays_of_ones_own_say_it_too(whole, tmp_path):
    options = {"experts": EXPERTS, "phase": "prefill", "score_kind": "sigmoid"}
    arrays = {"experts": whole.experts_TLK, "scores": whole.scores_TLK, "offsets": np.array([0, 10, 30])}
    np.savez(tmp_path / "x.npz", **arrays, chosen_first=np.array(CHOSEN))
    made = imported("npz", tmp_path / "x.npz", **options)
    assert (made.header.chosen_first, made.header.model.used_k, made.K) == (True, CHOSEN, EXPERTS)
    np.testing.assert_array_equal(made.at_k(CHOSEN).experts_TLK, whole.experts_TLK[:, :, :CHOSEN])
    assert "chosen_first is 2, but --k is 3; allowed: the same" in refusal("npz", tmp_path / "x.npz", k=3, **options)
    assert "beside ranked" in refusal("npz", tmp_path / "x.npz", ranked=True, **options)
    for wrong in (0, EXPERTS, EXPERTS + 1):
        np.savez(tmp_path / "wrong.npz", **arrays, chosen_first=np.array(wrong))
        told = refusal("npz", tmp_path / "wrong.npz", **options)
        assert f"chosen_first is {wrong}, allowed 1..7: rows hold 8 experts" in told
