"""Which tokens the rows of a response are: counts from token ids, choices, usage or options; starts; turns; aborts."""

import numpy as np
import pytest
from engine_responses import generate, npy, raw, usage, vllm, written
from importing import imported, refusal, selections

from moe_replay.traces.describe import reuse

STATED = {"experts": 32, "layers": "all"}


def choice(rng, rows, **said):
    return {"routed_experts": npy(selections(rng, rows, 3, 4, 32)), **said}


def lengths(trace):
    """Prompt and decoded rows of every sequence."""
    return [
        (
            int((trace.phase_T[trace.sequence_T == each] == 0).sum()),
            int((trace.phase_T[trace.sequence_T == each]).sum()),
        )
        for each in trace.sequences_S
    ]


COUNTED = {
    "token ids of the choice": (lambda rng: vllm(choice(rng, 13, token_ids=[1, 2, 3, 4, 5])), [(9, 4)]),
    "ids of prompt and choice": (
        lambda rng: vllm(choice(rng, 13, token_ids=[1] * 5), prompt_token_ids=[7] * 9), [(9, 4)],
    ),
    "ids of the prompt": (lambda rng: vllm(choice(rng, 13, prompt_token_ids=[7] * 9)), [(9, 4)]),
    "counts of each choice": (
        lambda rng: vllm(choice(rng, 6, completion_tokens=3), choice(rng, 9, completion_tokens=6), **usage(4, 9)),
        [(4, 2), (4, 5)],
    ),
    "usage of each choice": (
        lambda rng: vllm(choice(rng, 6, **usage(4, 3)), choice(rng, 9, **usage(5, 5))), [(4, 2), (5, 4)],
    ),
    "one prompt for all choices": (lambda rng: vllm(choice(rng, 4), choice(rng, 6), **usage(4, 4)), [(4, 0), (4, 2)]),
    "several prompts cut off at one length": (
        lambda rng: vllm(*(choice(rng, n, finish_reason="length") for n in (7, 9)), **usage(12, 6)), [(5, 2), (7, 2)],
    ),
    "two prompts, two choices each": (
        lambda rng: vllm(*(choice(rng, n, finish_reason="length") for n in (7, 7, 9, 9)), **usage(12, 12)),
        [(5, 2), (5, 2), (7, 2), (7, 2)],
    ),
    "several prompts with token ids": (
        lambda rng: vllm(choice(rng, 7, token_ids=[1] * 2), choice(rng, 9, token_ids=[1] * 4), **usage(12, 6)),
        [(6, 1), (6, 3)],
    ),
    "several prompts' own ids": (
        lambda rng: vllm(choice(rng, 7), choice(rng, 9), prompt_token_ids=[[1] * 6, [1] * 8]), [(6, 1), (8, 1)],
    ),
    "nothing generated, no row for the last": (lambda rng: vllm(choice(rng, 8), **usage(9, 0)), [(8, 0)]),
    "nothing generated, a row for every token": (lambda rng: vllm(choice(rng, 9), **usage(9, 0)), [(9, 0)]),
    "SGLang's token ids": (
        lambda rng: {"output_ids": [1] * 5, "meta_info": choice(rng, 13) | {"prompt_tokens": 9}}, [(9, 4)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTED)
def test_tokens_are_counted_by_what_the_response_has(tmp_path, rng, name):
    make, expected = COUNTED[name]
    kind = "sglang" if name.startswith("SGLang") else "vllm"
    assert lengths(imported(kind, written(tmp_path / "x.json", make(rng)), **STATED)) == expected


MISCOUNTED = {
    "several prompts that ended by themselves": (
        lambda rng: vllm(choice(rng, 7, finish_reason="stop"), choice(rng, 9, finish_reason="length"), **usage(12, 6)),
        "usage sums 2 prompts, and nothing says how each one's tokens divide into prompt and generated; allowed: token",
    ),
    "no counts": (
        lambda rng: vllm(choice(rng, 7)), "nothing says how many tokens are the prompt's; allowed: usage, token",
    ),
    "more generated than rows": (
        lambda rng: vllm(choice(rng, 3, token_ids=[1] * 9)), "3 rows, allowed 8 for 0 prompt and 9",
    ),
    "ids against usage": (
        lambda rng: vllm(choice(rng, 13, token_ids=[1] * 5), **usage(8, 6)),
        "5 generated tokens in 1 sequences, but usage says 6",
    ),
    "prompt against usage": (
        lambda rng: vllm(choice(rng, 13, token_ids=[1] * 5), **usage(8, 5)), "prompts of [9] tokens, but usage says 8",
    ),
    "ids against a count": (
        lambda rng: vllm(choice(rng, 13, token_ids=[1] * 5, completion_tokens=4)),
        "generated tokens are 5 by token_ids, but 4 by completion_tokens",
    ),
    "ids that are none": (lambda rng: vllm(choice(rng, 13, token_ids=5)), "token_ids is 5, allowed a list"),
    "choices for other prompts": (
        lambda rng: vllm(choice(rng, 7), prompt_token_ids=[[1], [2]]), "1 choices for 2 prompts, allowed equally many",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISCOUNTED)
def test_counts_that_cannot_fit_are_refused(tmp_path, rng, name):
    make, message = MISCOUNTED[name]
    assert message in refusal("vllm", written(tmp_path / "x.json", make(rng)), **STATED)


def test_options_say_what_no_response_does(tmp_path, rng):
    path = written(tmp_path / "x.json", vllm(choice(rng, 7), choice(rng, 9)))
    assert lengths(imported("vllm", path, **STATED, generated_tokens=3)) == [(5, 2), (7, 2)]
    assert lengths(imported("vllm", path, **STATED, prompt_tokens=6)) == [(6, 1), (6, 3)]
    assert "7 rows, allowed 8 for 6 prompt and 3 generated" in refusal(
        "vllm", path, **STATED, prompt_tokens=6, generated_tokens=3
    )


def turns(rng, *spans):
    """Responses of SGLang that cover tokens [start, prompt + generated - 1), and their rows."""
    rows = [selections(rng, prompt + generated - 1 - start, 3, 2, 16) for start, prompt, generated in spans]
    return rows, [
        generate({"routed_experts": raw(each)}, prompt, generated, routed_experts_start_len=start)
        for each, (start, prompt, generated) in zip(rows, spans, strict=True)
    ]


TURNS = {"experts": 16, "k": 2, "hidden_layers": 3, "layers": "all"}


def test_turns_that_begin_where_the_one_before_ended_are_one_sequence(tmp_path, rng):
    rows, responses = turns(rng, (0, 10, 5), (14, 18, 4), (21, 30, 6))
    trace = imported("sglang", written(tmp_path / "x.jsonl", *responses), **TURNS)
    np.testing.assert_array_equal(trace.experts_TLK, np.concatenate(rows))
    assert trace.position_T.tolist() == list(range(35))
    assert (trace.S, trace.prompt_len_S.tolist()) == (1, [10])
    assert np.flatnonzero(trace.phase_T).tolist() == [*range(10, 14), *range(18, 21), *range(30, 35)]
    assert reuse(trace).pairs_L.tolist() == [34] * 3
    assert trace.header.notes["turns"].startswith("2 responses continue the sequence before them")


@pytest.mark.parametrize(
    "spans",
    [
        [(0, 10, 5), (13, 18, 4)],  # begins before the end: a part is there twice
        [(0, 10, 5), (15, 18, 4)],  # a token between them has no row
        [(0, 10, 5), (14, 14, 4)],  # its prompt lacks the last token before
        [(0, 10, 5), (0, 18, 4)],
    ],
)
def test_other_responses_are_sequences_of_their_own(tmp_path, rng, spans):
    rows, responses = turns(rng, *spans)
    trace = imported("sglang", written(tmp_path / "x.jsonl", *responses), **TURNS)
    assert trace.S == 2
    starts = [start for start, _, _ in spans]
    assert trace.position_T.tolist() == [
        start + at for start, each in zip(starts, rows, strict=True) for at in range(len(each))
    ]


def test_a_start_in_the_file_and_one_in_the_options_agree(tmp_path, rng):
    _, responses = turns(rng, (4, 10, 5))
    path = written(tmp_path / "x.jsonl", *responses)
    assert imported("sglang", path, **TURNS, start_token=4).position_T[0] == 4
    assert "rows start at token 4, but --start-token is 3" in refusal("sglang", path, **TURNS, start_token=3)


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
@pytest.mark.parametrize("finish", ["abort", {"type": "abort", "message": "x"}])
def test_aborted_responses_are_refused_or_left_out_and_counted(tmp_path, rng, kind, finish):
    kept = [choice(rng, 8), choice(rng, 9)]
    lost = [{"routed_experts": None}, choice(rng, 3, finish_reason=finish)]
    if kind == "vllm":
        contents = [vllm(each, **usage(5, 4 + at)) for at, each in enumerate(kept)]
        contents[1:1] = [vllm(each, **usage(5, 4)) for each in lost]
    else:
        contents = [generate(each, 5, 4 + at) for at, each in enumerate(kept)]
        contents[1:1] = [generate(each, 5, 4) for each in lost]
    path = written(tmp_path / "x.jsonl", *contents)
    assert "line 2: " in (line := refusal(kind, path, **STATED))
    assert line.endswith("allowed: --leave-out aborted")
    trace = imported(kind, path, **STATED, leave_out=("aborted",))
    assert (trace.T, trace.S) == (17, 2)
    assert trace.header.notes["left_out"] == ["2 of 4 sequences, of responses that were aborted"]
    written(path, contents[0], contents[2], contents[3])
    assert "finish_reason is abort; allowed: --leave-out aborted" in refusal(kind, path, **STATED)


@pytest.mark.parametrize("k", [8, 2])
def test_tokens_without_a_route_are_left_out(tmp_path, rng, k):
    """A prompt that was computed elsewhere: decoded tokens keep their positions, and the first has none before it."""
    rows = selections(rng, 24, 6, k, 64)
    rows[:18], rows[21, 2] = 0, 0
    path = written(tmp_path / "x.json", vllm({"routed_experts": npy(rows)}, **usage(18, 7)))
    trace = imported("vllm", path, experts=64, layers="all", leave_out=("unrouted",))
    assert trace.position_T.tolist() == [18, 19, 20, 21, 22, 23]
    assert trace.header.notes["left_out"] == [
        "18 of 24 tokens, which have no route in any layer (1 rows of tokens with a route in other layers are kept); "
        "the first is row 0"
    ]
    assert reuse(trace).pairs_L.tolist() == [5, 5, 3, 5, 5, 5]
    np.testing.assert_array_equal(np.delete(trace.experts_TLK, 3, 0), np.delete(rows[18:], 3, 0))


def test_padding_is_refused_by_name_or_left_out(tmp_path, rng):
    rows = selections(rng, 24, 6, 4, 64)
    rows[20:] = np.arange(4)
    path = written(tmp_path / "x.json", vllm({"routed_experts": npy(rows)}, **usage(18, 7)))
    line = refusal("vllm", path, experts=64, layers="all")
    assert "row 20: experts are 0..3 in this order in every layer (4 such rows): padding, no routes" in line
    trace = imported("vllm", path, experts=64, layers="all", leave_out=("padding", "unrouted"))
    assert trace.T == 20
    assert trace.header.notes["left_out"] == ["4 of 24 tokens, which are padding; the first is row 20"]
    told = imported("vllm", path, experts=64, layers="all", unrouted="real")
    assert (told.T, told.header.notes["unrouted"]) == (24, "real")


def test_nothing_was_captured(tmp_path):
    rows = np.zeros((21, 5, 8), np.uint8)
    path = written(tmp_path / "x.json", vllm({"routed_experts": npy(rows)}, **usage(15, 7)))
    assert refusal("vllm", path, experts=256, layers="all").endswith(
        "all 5 layers hold only zeros: no routes were captured"
    )
    rows[:] = np.arange(8)
    path = written(tmp_path / "x.json", vllm({"routed_experts": npy(rows)}, **usage(15, 7)))
    line = refusal("vllm", path, experts=256, layers="all", leave_out=("padding",))
    assert line.endswith("all 21 tokens are left out, allowed: at least one with a route")
