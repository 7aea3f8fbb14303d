"""`import vllm` and `import sglang`: responses as the engines send them, and what is wrong with others."""

import base64
import io
import json

import numpy as np
import pytest
from importing import imported, refusal, selections

VLLM = {"experts": 8, "layers": "1-2"}
SGLANG = {"experts": 8, "layers": "1-2", "hidden_layers": 3, "k": 2}
SENDERS = ("vllm", "generate", "openai")


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return base64.b64encode(buffer.getvalue()).decode()


def raw(array):
    return base64.b64encode(np.ascontiguousarray(array, np.int32).tobytes()).decode()


def routed(rng, tokens):
    """Rows of tokens - 1 tokens in three layers, of which layer 0 is dense: zeros."""
    rows = selections(rng, tokens - 1, 3, 2, 8)
    rows[:, 0] = 0
    return rows


def response(sender, rows, prompt, generated):
    """What a sender answers; `rows` is a list of arrays for the choices of vLLM."""
    counts = {"prompt_tokens": prompt, "completion_tokens": generated}
    if sender == "vllm":
        return {"choices": [{"text": "x", "routed_experts": npy(each)} for each in rows], "usage": counts}
    if sender == "generate":
        return {"text": "x", "meta_info": counts | {"routed_experts": raw(rows[0])}}
    return {"choices": [{}], "usage": counts, "sgl_ext": {"routed_experts": raw(rows[0])}}


def kind_of(sender):
    return ("vllm", VLLM) if sender == "vllm" else ("sglang", SGLANG)


def saved(path, *contents):
    text = "\n".join(json.dumps(each) for each in contents) if path.suffix == ".jsonl" else json.dumps(contents[0])
    path.write_text(text)
    return path


@pytest.mark.parametrize("sender", SENDERS)
def test_responses_come_in_as_they_are(tmp_path, rng, sender):
    first, second = routed(rng, 7), routed(rng, 4)
    path = saved(tmp_path / "x.jsonl", response(sender, [first], 4, 3), response(sender, [second], 3, 1))
    kind, options = kind_of(sender)
    trace = imported(kind, path, **options, model="mine")
    assert (trace.experts_TLK == np.concatenate([first, second])[:, 1:]).all()
    assert trace.header.model.layer_ids == (1, 2)
    assert trace.sequence_T.tolist() == [0] * 6 + [1] * 3
    assert trace.phase_T.tolist() == [0, 0, 0, 0, 1, 1, 0, 0, 0]
    assert trace.step_T.tolist() == [0, 0, 0, 0, 1, 2, 3, 3, 3]
    assert trace.prompt_len_S.tolist() == [4, 3]
    assert not trace.header.ranked


def test_every_choice_is_a_sequence_behind_the_same_prompt(tmp_path, rng):
    path = saved(tmp_path / "x.json", response("vllm", [routed(rng, 5), routed(rng, 7)], 4, 1 + 3))
    trace = imported("vllm", path, **VLLM, ranked=True)
    assert trace.sequence_T.tolist() == [0] * 4 + [1] * 6
    assert trace.phase_T.tolist() == [0] * 4 + [0] * 4 + [1, 1]
    assert trace.header.ranked


@pytest.mark.parametrize("sender", SENDERS)
def test_rows_may_begin_behind_a_cached_prompt(tmp_path, rng, sender):
    path = saved(tmp_path / "x.json", response(sender, [routed(rng, 7)[2:]], 4, 3))
    kind, options = kind_of(sender)
    trace = imported(kind, path, **options, start_token=2)
    assert trace.position_T.tolist() == [2, 3, 4, 5]
    assert trace.phase_T.tolist() == [0, 0, 1, 1]
    assert trace.prompt_len_S.tolist() == [4]
    assert "4 rows, allowed 6 for 4 prompt and 3 generated tokens" in refusal(kind, path, **options)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_vllm_writes_three_types(tmp_path, rng, dtype):
    rows = routed(rng, 7).astype(dtype)
    path = saved(tmp_path / "x.json", response("vllm", [rows], 4, 3))
    assert (imported("vllm", path, **VLLM).experts_TLK == rows[:, 1:]).all()


def with_layer(rows, layer, values):
    rows = rows.astype(np.int32)
    rows[:, layer] = values
    return rows


ROWS = {
    "a row for the last token": (lambda rows: np.concatenate([rows, rows[:1]]), "21 rows, allowed 20 for"),
    "a row too few": (lambda rows: rows[1:], "19 rows, allowed 20 for"),
    "an expert too many": (lambda rows: with_layer(rows, 2, [3, 9]), "row 0, layer 2, slot 1: expert is 9"),
    "an expert in a dense layer": (lambda rows: with_layer(rows, 0, [0, 5]), "layer 0 is not in --layers, but holds"),
    "zeros in a MoE layer": (lambda rows: with_layer(rows, 1, 0), "layer 1 is in --layers, but holds only zeros"),
    "only padding in a MoE layer": (lambda rows: with_layer(rows, 1, -1), "layer 1 is in --layers, but holds only"),
    "zeros everywhere": (lambda rows: rows * 0, "all 3 layers hold only zeros: no routes were captured"),
    "-1 everywhere": (lambda rows: rows.astype(np.int32) * 0 - 1, "all 3 layers hold only -1: no routes were captured"),
    "padding in a MoE layer": (
        lambda rows: with_layer(rows, 1, np.where(np.arange(20)[:, None] == 3, -1, rows[:, 1].astype(int))),
        "row 3, layer 1: experts are [-1, -1], allowed: an expert in every slot, or rows of -1",
    ),
    "an expert twice": (lambda rows: with_layer(rows, 2, [3, 3]), "experts are [3, 3], allowed: each at most once"),
    "copied layers": (lambda rows: with_layer(rows, 2, rows[:, 1]), "layers 1 and 2 hold the same experts in all 20"),
}


@pytest.mark.parametrize("sender", SENDERS)
@pytest.mark.parametrize("name", ROWS)
def test_rows_that_cannot_be_are_refused(tmp_path, rng, sender, name):
    change, message = ROWS[name]
    path = saved(tmp_path / "bad.json", response(sender, [change(routed(rng, 21))], 15, 6))
    kind, options = kind_of(sender)
    line = refusal(kind, path, **options)
    assert line.startswith(str(path))
    assert message in line


def without(content, *keys):
    for key in keys[:-1]:
        content = content[key]
    del content[keys[-1]]


def put(content, value, *keys):
    for key in keys[:-1]:
        content = content[key]
    content[keys[-1]] = value


CONTENTS = {
    "no usage": (
        "vllm",
        lambda c: without(c, "usage"),
        "nothing says how many tokens are the prompt's; allowed: usage",
    ),
    "no choices": ("vllm", lambda c: put(c, [], "choices"), "choices is empty"),
    "no experts": (
        "vllm",
        lambda c: without(c, "choices", 0, "routed_experts"),
        "choices[0]: routed_experts is missing",
    ),
    "experts were null": (
        "vllm",
        lambda c: put(c, None, "choices", 0, "routed_experts"),
        "choices[0]: routed_experts is null, as of a request that was aborted or preempted; allowed: --leave-out",
    ),
    "not base64": ("vllm", lambda c: put(c, "a?", "choices", 0, "routed_experts"), "routed_experts is not base64"),
    "not .npy": ("vllm", lambda c: put(c, raw(np.ones(4)), "choices", 0, "routed_experts"), "no whole .npy array"),
    "a pickle": (
        "vllm",
        lambda c: put(c, npy(np.array([{}])), "choices", 0, "routed_experts"),
        "no whole .npy array (Object arrays cannot be loaded",
    ),
    "another type": (
        "vllm",
        lambda c: put(c, npy(np.ones((6, 3, 2))), "choices", 0, "routed_experts"),
        "routed_experts is float64, allowed whole numbers",
    ),
    "no layers": (
        "vllm",
        lambda c: put(c, npy(np.ones((6, 2), np.uint8)), "choices", 0, "routed_experts"),
        "shape (6, 2), allowed [rows, layers, k]",
    ),
    "a count as text": (
        "vllm",
        lambda c: put(c, "4", "usage", "prompt_tokens"),
        "usage: prompt_tokens is '4', allowed int",
    ),
    "another count": (
        "generate",
        lambda c: put(c, 5, "meta_info", "completion_tokens"),
        "6 rows, allowed 8 for 4 prompt and 5 generated tokens: one row fewer than tokens; rows from token 2",
    ),
    "no experts from SGLang": ("generate", lambda c: without(c, "meta_info", "routed_experts"), "is missing"),
    "bytes of another shape": (
        "generate",
        lambda c: put(c, raw(np.ones(37)), "meta_info", "routed_experts"),
        "has 148 bytes, allowed a multiple of 24: 3 hidden layers x 2 experts x 4 bytes",
    ),
    "no bytes": ("openai", lambda c: put(c, "", "sgl_ext", "routed_experts"), "routed_experts has 0 bytes"),
    "of neither endpoint": ("openai", lambda c: without(c, "sgl_ext"), "neither meta_info nor sgl_ext"),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_responses_that_cannot_be_are_refused(tmp_path, rng, name):
    sender, change, message = CONTENTS[name]
    content = response(sender, [routed(rng, 7)], 4, 3)
    change(content)
    kind, options = kind_of(sender)
    path = saved(tmp_path / "bad.jsonl", response(sender, [routed(rng, 7)], 4, 3), content)
    line = refusal(kind, path, **options)
    assert line.startswith(f"{path}: line 2: ")
    assert message in line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "not whole JSON"),
        (b"{", "not whole JSON"),
        (b"3", "is int, allowed an object"),
        (b"[3]", "response 0: is int"),
        (b"[]", "no responses"),
        (b"\xff\xfe", "not text"),
    ],
)
def test_what_is_no_response_is_refused(tmp_path, text, message):
    path = tmp_path / "bad.json"
    assert "no such file" in refusal("vllm", path, **VLLM)
    path.write_bytes(text)
    assert message in refusal("vllm", path, **VLLM)


def test_responses_of_two_models_are_refused(tmp_path, rng):
    other = np.pad(routed(rng, 7), ((0, 0), (0, 1), (0, 0)))
    path = saved(tmp_path / "x.jsonl", response("vllm", [routed(rng, 7)], 4, 3), response("vllm", [other], 4, 3))
    assert "rows are [layers, k] (4, 2), allowed (3, 2) as before" in refusal("vllm", path, **VLLM)


def test_options_must_say_what_responses_do_not(tmp_path, rng):
    path = saved(tmp_path / "x.json", response("vllm", [routed(rng, 7)], 4, 3))
    assert "vllm: needed: --layers; the files do not tell" in refusal("vllm", path, experts=8)
    assert "allowed: zeros exactly in the dense layers" in refusal("vllm", path, experts=8, layers="all")
    assert "--layers names layer 3, allowed 0..2" in refusal("vllm", path, experts=8, layers="1-3")
    assert "uint8, allowed a wider type for 300 experts" in refusal("vllm", path, experts=300, layers="1-2")
    path = saved(tmp_path / "y.json", response("generate", [routed(rng, 7)], 4, 3))
    line = refusal("sglang", path, experts=8, layers="all", k=2)
    assert "has 36 numbers in a row, without a shape; needed: --hidden-layers and --k" in line
