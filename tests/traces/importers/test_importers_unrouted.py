"""Rows filled with zeros, or with what -1 becomes in eight bits, have no route: named, and kept as such where asked."""

import base64
import io
import json

import numpy as np
import pytest
from importing import imported, refusal, selections

from moe_replay.traces.describe import load_LE, reuse
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.import_source import Options
from moe_replay.traces.routes import without_route_text

PROMPT, DECODED = 18, 6


def response(*choices):
    """A response of vLLM: choices of rows [tokens, layers, k], or None."""
    texts = []
    for rows in choices:
        file = io.BytesIO()
        if rows is not None:
            np.save(file, rows)
        texts.append(None if rows is None else base64.b64encode(file.getvalue()).decode())
    usage = {"prompt_tokens": PROMPT, "completion_tokens": (DECODED + 1) * len(choices)}
    return {"usage": usage, "choices": [{"routed_experts": text} for text in texts]}


def saved(path, *responses):
    path.write_text("\n".join(map(json.dumps, responses)))
    return path


def zero_prompt(rng, k, layers=6, experts=64, filling=0):
    """Rows of a prompt that was computed elsewhere, filled up, and of tokens decoded here."""
    rows = selections(rng, PROMPT + DECODED, layers, k, experts, np.uint8)
    rows[:PROMPT] = filling
    return rows


@pytest.mark.parametrize("k", [8, 2, 1])
def test_a_prompt_of_zeros_is_refused_or_kept_without_routes(tmp_path, rng, k):
    """With several slots such a row cannot be; with one it looks like expert 0 of every layer, 18 times in a row."""
    rows = zero_prompt(rng, k)
    path = saved(tmp_path / "x.jsonl", response(rows))
    line = refusal("vllm", path, experts=64, layers="all")
    assert "row 0, layer 0: " in line
    assert f"({PROMPT * 6} such rows): no route was captured" in line
    assert "allowed: --unrouted keep, which keeps such tokens without a route" in line
    assert line.endswith("or --unrouted real, where these are routes") == (k == 1)
    trace = imported("vllm", path, experts=64, layers="all", unrouted="keep")
    assert trace.phase_T.tolist() == [0] * PROMPT + [1] * DECODED
    assert load_LE(trace).sum() == DECODED * 6 * k
    assert reuse(trace).pairs_L.tolist() == [DECODED - 1] * 6
    assert without_route_text(trace).startswith(f"{PROMPT * 6} of {24 * 6} rows")
    np.testing.assert_array_equal(trace.experts_TLK[PROMPT:], rows[PROMPT:])


def test_one_slot_may_really_hold_them(tmp_path, rng):
    path = saved(tmp_path / "x.jsonl", response(zero_prompt(rng, 1)))
    assert load_LE(imported("vllm", path, experts=64, layers="all", unrouted="real"))[:, 0].min() >= PROMPT


@pytest.mark.parametrize("k", [2, 1])
def test_minus_one_in_eight_bits(tmp_path, rng, k):
    np.savez(tmp_path / "x.npz", experts=zero_prompt(rng, k, experts=256, filling=255), offsets=np.array([0, 24]))
    said = "every slot is 255" if k > 1 else "expert 255 again"
    assert said in refusal("npz", tmp_path / "x.npz", experts=256, phase="prefill")
    trace = imported("npz", tmp_path / "x.npz", experts=256, phase="prefill", unrouted="keep")
    assert (trace.experts_TLK[:PROMPT] == -1).all()


def test_scores_of_such_rows_go_with_them(tmp_path, rng):
    rows = zero_prompt(rng, 2)
    scores = -np.sort(-rng.random(rows.shape).astype(np.float32), axis=2)
    np.savez(tmp_path / "x.npz", experts=rows, offsets=np.array([0, 24]), scores=scores)
    trace = imported("npz", tmp_path / "x.npz", experts=64, phase="prefill", unrouted="keep", score_kind="logit")
    assert (trace.scores_TLK[:PROMPT] == 0).all()
    np.testing.assert_array_equal(trace.scores_TLK[PROMPT:], scores[PROMPT:])


@pytest.mark.parametrize("seed", range(5))
def test_chance_is_not_taken_for_filling(tmp_path, seed):
    """Two layers of eight experts with a hot expert 0: rows of (0, 0) come by chance, also a few after each other."""
    rng = np.random.default_rng(seed)
    rows = rng.choice(8, (5000, 2, 1), p=[0.3] + [0.1] * 7).astype(np.uint8)
    np.savez(tmp_path / "x.npz", experts=rows, offsets=np.array([0, 5000]))
    assert without_route_text(imported("npz", tmp_path / "x.npz", experts=8, phase="prefill")) == ""


@pytest.mark.parametrize("filling", [0, -1])
def test_arrays_without_any_route_are_refused(tmp_path, filling):
    np.savez(tmp_path / "x.npz", experts=np.full((9, 3, 2), filling, np.int16), offsets=np.array([0, 9]))
    line = refusal("npz", tmp_path / "x.npz", experts=8, phase="prefill", unrouted="keep")
    assert "all 9 rows of all 3 layers hold" in line
    assert line.endswith("no routes were captured")


def test_rows_of_minus_one_in_responses(tmp_path, rng):
    rows = selections(rng, PROMPT + DECODED, 3, 2, 64, np.int32)
    rows[4], rows[7, 1] = -1, -1
    path = saved(tmp_path / "x.jsonl", response(rows))
    line = refusal("vllm", path, experts=64, layers="all")
    assert (
        "row 4, layer 0: experts are [-1, -1], allowed: an expert in every slot, or rows of -1 in every slot with"
        in line
    )
    assert line.endswith("(4 such rows)")
    trace = imported("vllm", path, experts=64, layers="all", unrouted="keep")
    assert without_route_text(trace).startswith("4 of 72 rows")
    rows[9, 2, 1] = -1
    saved(path, response(rows))
    assert "row 9, layer 2: experts are" in refusal("vllm", path, experts=64, layers="all", unrouted="keep")


def test_responses_without_routed_experts_are_left_out_and_named(tmp_path, rng):
    whole = selections(rng, PROMPT + DECODED, 3, 4, 32)
    path = saved(tmp_path / "x.jsonl", response(whole), response(None), response(whole[::-1]))
    assert "line 2: choices[0]: routed_experts is null, as of" in refusal("vllm", path, experts=32, layers="all")
    stated = {"experts": 32, "layers": "all", "leave_out": ("aborted",)}
    trace = imported("vllm", path, **stated)
    assert (2 * len(whole), 2) == (trace.T, trace.S)
    assert trace.header.notes["left_out"] == ["1 of 3 sequences, of responses that were aborted"]
    saved(path, response(whole, None))
    assert "usage: sums over choices that are left out; allowed: token ids or counts" in refusal("vllm", path, **stated)
    assert imported("vllm", path, **stated, prompt_tokens=PROMPT).prompt_len_S.tolist() == [PROMPT]
    saved(path, response(None))
    assert "no responses with routed experts" in refusal("vllm", path, **stated)


def test_another_word_is_refused():
    with pytest.raises(InputError, match="--unrouted is 'drop', allowed keep, real"):
        Options(unrouted="drop")


@pytest.mark.parametrize(("k", "filling"), [(1, 0), (2, 0), (2, -1), (1, -1)])
def test_a_dense_layer_is_none_of_a_trace(tmp_path, rng, k, filling):
    """Whatever is said of rows without routes: no row of such a layer has any."""
    experts = selections(rng, 40, 4, k, 16, np.int16)
    experts[:, 2] = filling
    np.savez(path := tmp_path / "x.npz", experts=experts, offsets=np.array([0, 40]))
    for unrouted in (None, "keep"):
        line = refusal("npz", path, experts=16, phase="prefill", unrouted=unrouted)
        assert f"layer 2 holds {filling} in all 40 rows, as a dense layer does; allowed: the MoE layers alone" in line
    if (k, filling) == (1, 0):
        assert imported("npz", path, experts=16, phase="prefill", unrouted="real").T == 40
    np.savez(path, experts=experts[:, [0, 1, 3]], offsets=np.array([0, 40]))
    assert imported("npz", path, experts=16, phase="prefill", layers="0-1,3").header.model.layer_ids == (0, 1, 3)


def test_one_layer_with_one_slot_tells_by_a_longer_run(tmp_path, rng):
    experts = rng.integers(0, 16, (600, 1, 1)).astype(np.uint8)
    np.savez(path := tmp_path / "x.npz", experts=experts, offsets=np.array([0, 600]))
    assert imported("npz", path, experts=16, phase="prefill").T == 600
    experts[:200] = 0
    np.savez(path, experts=experts, offsets=np.array([0, 600]))
    assert "expert 0 again" in refusal("npz", path, experts=16, phase="prefill")
    assert imported("npz", path, experts=16, phase="prefill", unrouted="real").T == 600
    kept = imported("npz", path, experts=16, phase="prefill", unrouted="keep")
    assert (kept.experts_TLK[:200] == -1).all()
