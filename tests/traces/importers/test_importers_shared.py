"""A shared expert fused with the routed ones is none to load: left out where it is stated, refused where it is not."""

import base64
import io
import json

import numpy as np
import pytest
from importing import imported, refusal, selections

from moe_replay.traces.describe import load_LE

LOOKS_SHARED = "it looks like a shared expert; allowed: --shared-slots N"


@pytest.fixture
def rows(rng):
    """Rows of 8 routed experts of 64 and, in a ninth slot, the shared one, id 64."""
    routed = selections(rng, 20, 3, 8, 64, np.int16)
    return np.concatenate([routed, np.full((20, 3, 1), 64, np.int16)], 2)


def saved(path, experts, **beside):
    np.savez(path, experts=experts, offsets=np.array([0, len(experts)]), **beside)
    return path


def test_it_is_left_out_where_it_is_stated(tmp_path, rows, rng):
    scores = -np.sort(-rng.random(rows.shape).astype(np.float32), axis=2)
    path = saved(tmp_path / "x.npz", rows, scores=scores)
    trace = imported("npz", path, experts=64, shared_slots=1, phase="prefill", score_kind="logit")
    np.testing.assert_array_equal(trace.experts_TLK, rows[:, :, :8])
    np.testing.assert_array_equal(trace.scores_TLK, scores[:, :, :8])
    about = trace.header.model
    assert (about.experts, about.used_k, about.shared_experts) == (64, 8, 1)
    assert load_LE(trace).sum() == 20 * 3 * 8


def test_it_is_refused_where_it_is_not(tmp_path, rows):
    path = saved(tmp_path / "x.npz", rows)
    line = refusal("npz", path, experts=64, phase="prefill")
    assert f"slot 8 holds ids from 64 on in all rows: {LOOKS_SHARED}" in line
    line = refusal("npz", path, experts=65, phase="prefill")
    assert f"expert 64 is in all 20 rows of all 3 layers: {LOOKS_SHARED}" in line
    assert line.endswith("--shared-slots 0 keeps it")
    assert imported("npz", path, experts=65, shared_slots=0, phase="prefill").K == 9


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"experts": 64, "shared_slots": 2}, "slot 7 holds "),
        ({"experts": 65, "shared_slots": 1}, "slot 8 holds 64..64, allowed in one of --shared-slots: ids from 65 on"),
        ({"experts": 64, "shared_slots": 9}, "--shared-slots 9, allowed fewer than the 9 slots of a row"),
    ],
)
def test_slots_that_hold_something_else_are_refused(tmp_path, rows, stated, message):
    assert message in refusal("npz", saved(tmp_path / "x.npz", rows), phase="prefill", **stated)


def test_several_shared_experts_take_turns(tmp_path, rows, rng):
    """Copies of the shared expert have ids 64..67, drawn at random to share its load."""
    rows = np.concatenate([rows[:, :, :8], rng.integers(64, 68, (20, 3, 1)).astype(np.int16)], 2)
    path = saved(tmp_path / "x.npz", rows)
    assert "slot 8 holds ids from 64 on" in refusal("npz", path, experts=64, phase="prefill")
    assert imported("npz", path, experts=64, shared_slots=1, phase="prefill").K == 8


def test_a_wrong_number_of_experts_is_no_shared_expert(tmp_path, rng):
    path = saved(tmp_path / "x.npz", selections(rng, 4, 2, 2, 64))
    assert "expert is" in refusal("npz", path, experts=5, phase="prefill")


@pytest.mark.parametrize("hot", [{"layers": 1}, {"layers": 3, "tokens": 4}, {"layers": 3, "k": 64}])
def test_what_chance_or_one_hot_layer_explains_is_no_shared_expert(tmp_path, rng, hot):
    shape = {"tokens": 20, "layers": 3, "k": 2} | hot
    rows = selections(rng, shape["tokens"], shape["layers"], shape["k"], 64)
    if shape["k"] < 64:
        rows[:, :, 1] = 7
        rows[:, :, 0][rows[:, :, 0] == 7] = 8
    trace = imported("npz", saved(tmp_path / "x.npz", rows), experts=64, phase="prefill")
    assert shape["tokens"] == trace.T


def test_responses_with_dense_layers(tmp_path, rows):
    """vLLM's layer 0 is dense and holds zeros in all slots, the shared expert's too."""
    with_dense = np.concatenate([np.zeros((20, 1, 9), np.int16), rows], 1).astype(np.uint8)
    text = io.BytesIO()
    np.save(text, with_dense)
    choice = {"routed_experts": base64.b64encode(text.getvalue()).decode()}
    usage = {"prompt_tokens": 15, "completion_tokens": 6}
    (tmp_path / "x.json").write_text(json.dumps({"usage": usage, "choices": [choice]}))
    stated = {"experts": 64, "layers": "1-3"}
    assert "slot 8 holds ids from 64 on" in refusal("vllm", tmp_path / "x.json", **stated)
    trace = imported("vllm", tmp_path / "x.json", shared_slots=1, **stated)
    np.testing.assert_array_equal(trace.experts_TLK, rows[:, :, :8])
