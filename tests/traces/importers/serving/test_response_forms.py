"""Engines' responses say their layout: the same rows come in from every form and type, and nothing else does."""

import numpy as np
import pytest
from engine_responses import FORMS, generate, npy, raw, said_beside, usage, vllm, written
from importing import imported, refusal, selections

TYPES = ("uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", ">i4")
WIDE = {"experts": 64, "layers": "1-4"}


def with_dense(rng, tokens, layers=4, k=4, experts=64):
    """Rows of tokens - 1 tokens; layer 0 is dense: zeros."""
    rows = selections(rng, tokens - 1, layers, k, experts, np.int64)
    return np.concatenate([np.zeros((tokens - 1, 1, k), np.int64), rows], 1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_and_type_holds_the_same_rows(tmp_path, rng, form, dtype):
    rows = with_dense(rng, 13)
    dtype = np.dtype(dtype).str if dtype.startswith(">") else dtype
    content = FORMS[form](rows, dtype)
    if form == "object of .npy" and dtype.startswith(">"):
        content["routed_experts"].pop("dtype")
    for kind, response in (("vllm", vllm(content, **usage(9, 4))), ("sglang", generate(content, 9, 4))):
        trace = imported(kind, written(tmp_path / "x.json", response), **WIDE)
        np.testing.assert_array_equal(trace.experts_TLK, rows[:, 1:])
        assert (trace.phase_T.tolist(), trace.prompt_len_S.tolist()) == ([0] * 9 + [1] * 3, [9])
        assert trace.header.model.used_k == 4


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int64"])
def test_the_wire_type_of_raw_bytes_is_what_the_file_says(tmp_path, rng, dtype):
    rows = with_dense(rng, 13)
    stated = WIDE | {"k": 4, "hidden_layers": 5}
    path = written(tmp_path / "x.json", generate(said_beside(rows, dtype), 7, 6))
    np.testing.assert_array_equal(imported("sglang", path, **stated).experts_TLK, rows[:, 1:])
    path = written(tmp_path / "y.json", generate({"routed_experts": raw(rows, dtype)}, 7, 6))
    line = refusal("sglang", path, **stated)
    wide = np.dtype(dtype).itemsize
    assert f"rows as int32, but 12 as the tokens ask for if numbers have {wide} bytes" in line
    assert line.endswith(f"allowed: routed_experts_dtype beside it, or --dtype uint{8 * wide}")
    np.testing.assert_array_equal(imported("sglang", path, **stated, dtype=dtype).experts_TLK, rows[:, 1:])


def test_bytes_of_no_said_type_need_a_count_of_tokens(tmp_path, rng):
    """int64 read as int32 has a zero behind every id; without counts nothing but luck would show it."""
    content = {"routed_experts": raw(with_dense(rng, 13), "int64")}
    stated = WIDE | {"k": 4, "hidden_layers": 5}
    path = written(tmp_path / "x.json", {"meta_info": content | {"completion_tokens": 6}})
    assert "nothing says the type of routed_experts's 1920 bytes, nor how many rows they are" in refusal(
        "sglang", path, **stated
    )
    assert imported("sglang", path, **stated, dtype="int64").prompt_len_S.tolist() == [7]
    path = written(tmp_path / "y.json", vllm(content, **usage(7, 6)))
    assert "no whole .npy array, and nothing says the type of raw bytes" in refusal("vllm", path, **stated)


CONTRADICTIONS = {
    "another shape": ({"shape": [12, 5, 3]}, "shape is [12, 5, 3], but it holds 240 numbers"),
    "a shape of the same size": ({"shape": [12, 4, 5]}, "shape is [12, 4, 5], but it holds 240 numbers"),
    "a type of fractions": ({"dtype": "float32"}, "dtype is 'float32', allowed a type of whole numbers"),
    "no type": ({"dtype": 8}, "dtype is 8, allowed a type of whole numbers"),
    "an unknown key": ({"order": "LTK"}, "has key 'order', allowed an object of data, shape, dtype"),
    "a start below zero": ({"start": -1}, "start is -1, allowed 0.."),
    "two starts": ({"start": 0, "start_len": 3}, "start is said as ['0', '3'], allowed one number"),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused(tmp_path, rng, name):
    beside, message = CONTRADICTIONS[name]
    content = {"routed_experts": {"data": with_dense(rng, 13).tolist()} | beside}
    assert message in refusal("vllm", written(tmp_path / "x.json", vllm(content, **usage(9, 4))), **WIDE)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[[1, 2], [3]]], "has lists of different lengths"),
        ([[[1.5, 2]]], "has other than whole numbers in its lists"),
        ([[[True, False]]], "has other than whole numbers in its lists"),
        ([[[None, 2]]], "has other than whole numbers in its lists"),
        ([[[10**30, 2]]], "has other than whole numbers in its lists"),
        ([], "has no numbers in its lists"),
        (7, "is 7, allowed text in base64, nested lists or an object with data"),
        ({"shape": [1]}, "has no data, allowed an object of data"),
        ([[[[1]]]], "shape (1, 1, 1, 1), allowed [rows, layers, k]"),
    ],
)
def test_values_in_no_form_are_refused(tmp_path, value, message):
    for kind, response in (
        ("vllm", vllm({"routed_experts": value})),
        ("sglang", generate({"routed_experts": value}, 1, 1)),
    ):
        assert message in refusal(kind, written(tmp_path / "x.json", response), experts=8, layers="all")


def test_sizes_that_are_stated_agree_with_those_of_the_file(tmp_path, rng):
    path = written(tmp_path / "x.json", vllm({"routed_experts": npy(with_dense(rng, 13))}, **usage(9, 4)))
    assert "shape (12, 5, 4), but --hidden-layers says 6" in refusal("vllm", path, **WIDE, hidden_layers=6)
    assert "shape (12, 5, 4), but --k says 3" in refusal("vllm", path, **WIDE, k=3)
    assert imported("vllm", path, **WIDE, k=4, hidden_layers=5).T == 12


def test_many_experts_and_columns(tmp_path, rng):
    """512 experts, 22 of them for a token, three dense layers before."""
    rows = np.concatenate([np.zeros((26, 3, 22), int), selections(rng, 26, 5, 22, 512, np.int64)], 1)
    path = written(tmp_path / "x.json", vllm({"routed_experts": npy(rows.astype(np.uint16))}, **usage(20, 7)))
    trace = imported("vllm", path, experts=512, layers="3-7")
    np.testing.assert_array_equal(trace.experts_TLK, rows[:, 3:])
    narrow = written(tmp_path / "y.json", vllm({"routed_experts": npy(rows.astype(np.uint8))}, **usage(20, 7)))
    assert "is uint8, allowed a wider type for 512 experts" in refusal("vllm", narrow, experts=512, layers="3-7")


def test_the_prompts_rows_may_be_apart(tmp_path, rng):
    rows = with_dense(rng, 13)
    content = vllm({"routed_experts": npy(rows[9:])}, prompt_routed_experts=npy(rows[:9]), **usage(9, 4))
    trace = imported("vllm", written(tmp_path / "x.json", content), **WIDE)
    np.testing.assert_array_equal(trace.experts_TLK, rows[:, 1:])
    content["prompt_routed_experts"] = npy(rows[:8])
    assert "11 rows, allowed 12 for 9 prompt and 4 generated tokens" in refusal(
        "vllm", written(tmp_path / "x.json", content), **WIDE
    )
    content["prompt_routed_experts"] = npy(rows[:9, :4])
    assert "rows of prompt and choice are [layers, k] (4, 4) and (5, 4)" in refusal(
        "vllm", written(tmp_path / "x.json", content), **WIDE
    )
