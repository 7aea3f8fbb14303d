"""Arrivals from published logs: times in every unit, and which sequence each request is."""

import json
from pathlib import Path

import numpy as np
import pytest
from importing import imported, selections

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.request_arrivals import Matched, at_speed, matched, with_arrivals
from moe_replay.traces.request_logs import Requests, read_requests

PROMPT, ROWS = (6, 3, 5), (9, 4, 6)  # sequences of 3, 1 and 1 decoded tokens


@pytest.fixture
def trace(tmp_path, rng):
    experts = selections(rng, sum(ROWS), 2, 2, 16)
    np.savez(tmp_path / "mine.npz", experts=experts, offsets=np.cumsum([0, *ROWS]), prompt_len=PROMPT)
    made = imported("npz", tmp_path / "mine.npz", experts=16, phase="both")
    save_trace(made, tmp_path / "mine.trace.parquet")
    return made


def mooncake(path, times=(0, 120, 900), prompts=PROMPT, outputs=(4, 2, 2)):
    lines = [
        {"timestamp": t, "input_length": p, "output_length": o, "hash_ids": [0, 1]}
        for t, p, o in zip(times, prompts, outputs, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_every_log_says_the_same(tmp_path):
    mooncake(tmp_path / "m.jsonl", (500, 620, 1400))
    (tmp_path / "b.csv").write_text(
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "0.5,ChatGPT,6,4,10,Conversation log\n0.62,GPT-4,3,2,5,API log\n1.4,GPT-4,5,2,7,API log\n"
    )
    (tmp_path / "a.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.5000000,6,4\n2023-11-16 18:15:46.6200000,3,2\n"
        "2023-11-16 18:15:47.4000000,5,2\n"
    )
    (tmp_path / "z.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 23:59:59.900000+00:00,6,4\n"
        "2024-05-11 00:00:00.020000+00:00,3,2\n2024-05-11 00:00:00.800000+00:00,5,2\n"
    )
    for name, kind in (("m.jsonl", "mooncake"), ("b.csv", "burstgpt"), ("a.csv", "azure"), ("z.csv", "azure")):
        found = read_requests(tmp_path / name, kind)
        assert found.arrival_ns_G.tolist() == [0, 120_000_000, 900_000_000], name
        assert (found.prompt_G.tolist(), found.generated_G.tolist()) == ([6, 3, 5], [4, 2, 2])


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ('{"timestamp": 1, "input_length": 2}', "mooncake", "no column 'output_length' of mooncake"),
        ('{"timestamp": -1, "input_length": 2, "output_length": 1}', "mooncake", "row 1 is -1, allowed finite times"),
        ('{"timestamp": 1e300, "input_length": 2, "output_length": 1}', "mooncake", "allowed finite times"),
        ('{"timestamp": 1, "input_length": -2, "output_length": 1}', "mooncake", "input_length is -2, allowed >= 0"),
        ('{"timestamp": null, "input_length": 2, "output_length": 1}', "mooncake", "timestamp is empty"),
        ('{"timestamp": 1}', "vllm", "allowed: azure, burstgpt, mooncake|--from"),
        ("", "mooncake", "empty"),
    ],
)
def test_logs_that_cannot_be(tmp_path, text, kind, says):
    (tmp_path / "m.jsonl").write_text(text)
    with pytest.raises(InputError) as refused:
        read_requests(tmp_path / "m.jsonl", kind)
    assert any(each in str(refused.value) for each in says.split("|"))
    (tmp_path / "a.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,1\n")
    with pytest.raises(InputError, match="no dates and times"):
        read_requests(tmp_path / "a.csv", "azure")


def test_requests_in_order_keep_the_trace(tmp_path, trace):
    found = matched(trace, read_requests(mooncake(tmp_path / "m.jsonl"), "mooncake"))
    made = with_arrivals(trace, found, {"log": "m.jsonl"})
    assert made.arrival_ns_S.tolist() == [0, 120_000_000, 900_000_000]
    np.testing.assert_array_equal(made.experts_TLK, trace.experts_TLK)
    np.testing.assert_array_equal(made.step_T, trace.step_T)
    assert made.header.notes["arrivals"] == {"log": "m.jsonl"}


def test_the_order_of_a_trace_is_not_that_of_its_numbers(tmp_path, trace):
    """Sequence 2 runs first: the first request is that one."""
    turned = with_arrivals(trace, Matched(np.array([2, 0, 1]), np.zeros(3, np.int64)), {})
    renumbered = {0: 2, 1: 0, 2: 1}
    swapped = type(turned)(
        header=turned.header, **{name: getattr(turned, name) for name in turned.present if name not in
                                 ("sequence_T", "prompt_len_S", "arrival_ns_S")},
        sequence_T=np.array([renumbered[each] for each in turned.sequence_T.tolist()], np.int32),
    )  # fmt: skip
    made = with_arrivals(swapped, matched(swapped, Requests(np.array([0, 1, 2]), np.ones(3, int), np.ones(3, int))), {})
    assert made.arrival_ns_S.tolist() == [1, 2, 0]


def test_more_or_fewer_requests(tmp_path, trace):
    five = read_requests(mooncake(tmp_path / "m.jsonl", (0, 1, 2, 3, 4), [1] * 5, [1] * 5), "mooncake")
    with pytest.raises(InputError, match="5 requests for 3 sequences; allowed: as many"):
        matched(trace, five)
    cut = matched(trace, five, uneven="cut")
    assert (len(cut.index_G), cut.said) == (3, ("left out: the last 2 requests",))
    cycled = with_arrivals(trace, matched(trace, five, uneven="cycle"), {})
    assert (cycled.S, cycled.T) == (5, 19 + 9 + 4)
    np.testing.assert_array_equal(cycled.experts_TLK[19:28], trace.experts_TLK[:9])
    assert cycled.sequence_T[[18, 19, 28]].tolist() == [2, 3, 4]
    two = five.first(2)
    with pytest.raises(InputError, match="2 requests for 3 sequences"):
        matched(trace, two, uneven="cycle")
    made = with_arrivals(trace, matched(trace, two, uneven="cut"), {})
    assert (made.S, made.T) == (2, 13)
    with pytest.raises(InputError, match="--requests 9, allowed at most 5"):
        five.first(9)


def test_requests_take_the_sequence_of_their_length(trace):
    asked = Requests(np.array([0, 10, 20, 30]), np.array([3, 6, 5, 300]), np.array([2, 4, 2, 300]))
    found = matched(trace, asked, "nearest")
    assert found.index_G.tolist() == [1, 0, 2, 0]
    made = with_arrivals(trace, found, {})
    assert made.prompt_len_S.tolist() == [3, 6, 5, 6]
    assert (np.diff(made.arrival_ns_S) >= 0).all()
    np.testing.assert_array_equal(made.experts_TLK[:4], trace.experts_TLK[9:13])
    ten_times = Requests(np.array([0, 1, 2]), np.array([30, 60, 50]), np.array([11, 31, 11]))
    assert matched(trace, ten_times, "scaled").index_G.tolist() == [1, 0, 2]
    with pytest.raises(InputError, match="takes sequences as often as requests ask"):
        matched(trace, asked, "nearest", "cut")


def test_speed_is_load():
    assert at_speed(np.array([0, 100, 301]), 2).tolist() == [0, 50, 150]
    with pytest.raises(InputError, match="allowed above 0"):
        at_speed(np.array([1]), 0)
    with pytest.raises(InputError, match="would be after"):
        at_speed(np.array([10**18]), 1e-9)


def test_the_command_and_what_it_refuses(traces, trace, tmp_path):
    mooncake(tmp_path / "m.jsonl", (7, 907, 127))
    status, printed, errors = traces(
        "arrivals mine.trace.parquet m.jsonl --from mooncake --speed 2 --out x.trace.parquet"
    )
    assert (status, errors) == (0, "")
    assert "3 sequences arrive within 0.45 s, 4.444 per second" in printed
    assert "was sorted" in printed
    assert "times count from the first request" in printed
    assert load_trace("x.trace.parquet").arrival_ns_S.tolist() == [0, 60_000_000, 450_000_000]
    assert traces("arrivals x.trace.parquet --speed 0.5 --out y.trace.parquet")[0] == 0
    assert load_trace("y.trace.parquet").arrival_ns_S.tolist() == [0, 120_000_000, 900_000_000]
    for words, says in (
        ("mine.trace.parquet m.jsonl", "a log and --from: allowed both"),
        ("mine.trace.parquet", "the trace has no arrivals of its own"),
        ("mine.trace.parquet m.jsonl --from csv", "'csv'"),
        ("mine.trace.parquet m.jsonl --from mooncake --match best", "'best'"),
    ):
        status, _, errors = traces(f"arrivals {words} --out z.trace.parquet")
        assert (status, errors.count("\n")) == (2, 1)
        assert says in errors
    assert not Path("z.trace.parquet").exists()
