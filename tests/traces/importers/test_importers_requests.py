"""Arrays by request and padded batches: what a file per request, a folder or a mask says becomes sequences."""

import json

import numpy as np
import pytest
from importing import imported, refusal, selections

OPTIONS = {"experts": 40, "phase": "both"}


@pytest.fixture
def folder(tmp_path, rng):
    """Requests 2 and 10 with their usage beside them: 7 + 3 and 4 + 3 tokens, the last of each never routed."""
    rows = {2: selections(rng, 9, 3, 8, 40), 10: selections(rng, 6, 3, 8, 40)}
    for number, prompt in ((2, 7), (10, 4)):
        np.savez(tmp_path / f"turn{number}_req.npz", routed_experts=rows[number])
        usage = {"usage": {"prompt_tokens": prompt, "completion_tokens": 3}}
        (tmp_path / f"turn{number}_req.json").write_text(json.dumps(usage))
    return tmp_path, rows


def test_a_file_is_a_request_and_turn_2_comes_before_turn_10(folder):
    path, rows = folder
    trace = imported("npz", path, **OPTIONS)
    np.testing.assert_array_equal(trace.experts_TLK, np.concatenate([rows[2], rows[10]]))
    assert trace.prompt_len_S.tolist() == [7, 4]
    assert trace.phase_T.tolist() == [0] * 7 + [1] * 2 + [0] * 4 + [1] * 2
    assert trace.header.data["note"].endswith("2 files")
    one = imported("npz", path / "turn10_req.npz", **OPTIONS)
    np.testing.assert_array_equal(one.experts_TLK, rows[10])


def test_rows_that_do_not_fit_the_tokens_are_refused(folder):
    path, rows = folder
    for change, says in (
        ({"prompt_tokens": 8, "completion_tokens": 3}, "9 rows, allowed 10 for 11 tokens"),
        ({"prompt_tokens": "8", "completion_tokens": 3}, "prompt_tokens is '8', allowed a whole number"),
        ({"completion_tokens": 3}, "--phase both needs prompt_len"),
    ):
        (path / "turn2_req.json").write_text(json.dumps({"usage": change}))
        assert says in refusal("npz", path / "turn2_req.npz", **OPTIONS)
    (path / "turn2_req.json").write_text("{")
    assert "turn2_req.json: not whole JSON" in refusal("npz", path / "turn2_req.npz", **OPTIONS)
    (path / "turn2_req.json").unlink()
    assert "turn10_req.npz: holds" in refusal("npz", path, **OPTIONS)  # one tells its prompt, the other does not
    assert imported("npz", path / "turn2_req.npz", experts=40, phase="prefill").S == 1
    filled = np.concatenate([rows[10], np.zeros((1, 3, 8), np.uint8)])
    np.savez(path / "turn10_req.npz", routed_experts=filled)
    np.testing.assert_array_equal(imported("npz", path / "turn10_req.npz", **OPTIONS).experts_TLK, rows[10])
    np.savez(path / "turn2_req.npz", routed_experts=rows[2][:, :2])
    (path / "turn10_req.json").unlink()
    assert "rows are [layers, k] (3, 8), allowed (2, 8)" in refusal("npz", path, experts=40, phase="prefill")
    (path / "none").mkdir()
    assert "a folder without .npz files" in refusal("npz", path / "none", **OPTIONS)


def test_token_ids_beside_the_rows_tell_the_prompt(tmp_path, rng):
    rows = selections(rng, 9, 3, 8, 40)
    np.savez(tmp_path / "r.npz", routed_experts=rows, request_id="r1", prompt_token_ids=np.arange(6),
             output_token_ids=np.arange(4))  # fmt: skip
    assert imported("npz", tmp_path / "r.npz", **OPTIONS).prompt_len_S.tolist() == [6]
    np.savez(tmp_path / "r.npz", routed_experts=rows, prompt_token_ids=np.arange(6), output_token_ids=np.arange(5))
    assert "9 rows, allowed 10 for 11 tokens" in refusal("npz", tmp_path / "r.npz", **OPTIONS)
    np.savez(tmp_path / "r.npz", routed_experts=rows, borders=[0, 9])
    assert "no array for 'offsets'; it holds routed_experts, borders" in refusal("npz", tmp_path / "r.npz", **OPTIONS)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_batch_and_its_mask(tmp_path, rng, side):
    rows = [selections(rng, 5, 3, 8, 40), selections(rng, 3, 3, 8, 40)]
    batch, mask = np.zeros((2, 6, 3, 8), np.uint8), np.zeros((2, 6), bool)
    for at, each in enumerate(rows):
        place = slice(6 - len(each), 6) if side == "left" else slice(0, len(each))
        batch[at, place], mask[at, place] = each, True
    np.savez(tmp_path / "b.npz", experts=batch, attention_mask=mask, prompt_len=[3, 1])
    trace = imported("npz", tmp_path / "b.npz", **OPTIONS)
    np.testing.assert_array_equal(trace.experts_TLK, np.concatenate(rows))
    assert (trace.prompt_len_S.tolist(), trace.phase_T.tolist()) == ([3, 1], [0, 0, 0, 1, 1, 0, 1, 1])
    np.savez(tmp_path / "b.npz", experts=batch, prompt_len=[3, 1])
    assert "a batch axis without a mask" in refusal("npz", tmp_path / "b.npz", **OPTIONS)
    np.savez(tmp_path / "b.npz", experts=batch, mask=mask[:, :5], prompt_len=[3, 1])
    assert "allowed 0 and 1 of shape (2, 6)" in refusal("npz", tmp_path / "b.npz", **OPTIONS)
    np.savez(tmp_path / "b.npz", experts=batch, mask=mask, prompt_len=[6, 1])
    assert "row 0: 6 prompt tokens of 5" in refusal("npz", tmp_path / "b.npz", **OPTIONS)
