"""`import sglang-recorder`: columns, modes, requests and ranks as the files have them; counts that need not add up."""

import json

import numpy as np
import pytest
from importing import imported, refusal, selections

from moe_replay.traces.describe import reuse

torch = pytest.importorskip("torch")

OPTIONS = {"experts": 16, "k": 2, "layers": "all"}


def saved(path, content):
    torch.save(content, path)
    return path


def record(rng, number, mode, positions, lengths=None, columns=8, k=2, **beside):
    """One pass of three layers; ids of empty columns are -1."""
    tokens, experts = len(positions), beside.pop("experts", 16)
    ids = np.full((3, tokens, columns), -1, np.int32)
    if tokens:
        ids[..., :k] = selections(rng, tokens, 3, k, experts, np.int32).transpose(1, 0, 2)
    return {
        "forward_pass_id": number, "rank": 0, "gatherer_key": "primary", "input_ids": list(range(100, 100 + tokens)),
        "positions": list(positions), "extend_seq_lens": lengths, "forward_mode": mode,
        "topk_ids_of_layer": torch.tensor(ids), "global_physical_count": torch.zeros(3, experts, dtype=torch.int32),
        **beside,
    }  # fmt: skip


def tokens_file(*records, experts=16, layers=3):
    return {
        "records": list(records), "last_physical_to_logical_map": torch.arange(experts).repeat(layers, 1),
    }  # fmt: skip


def rows(content, k=2):
    parts = [each["topk_ids_of_layer"].numpy()[:, : len(each["positions"]), :k] for each in content["records"]]
    return np.concatenate([part.transpose(1, 0, 2) for part in parts])


@pytest.mark.parametrize(("columns", "k"), [(10, 10), (8, 8), (22, 22), (8, 6), (4, 1)])
def test_columns_are_those_of_the_file(tmp_path, rng, columns, k):
    shape = {"columns": columns, "k": k, "experts": 512}
    content = tokens_file(
        record(rng, 1, 1, [0, 1, 2, 3, 4, 0, 1], [5, 2], **shape), record(rng, 2, 2, [5, 2], **shape), experts=512
    )
    path = saved(tmp_path / "x.pt", content)
    for stated in ({}, {"k": k}):
        trace = imported("sglang-recorder", path, experts=512, layers="all", **stated)
        np.testing.assert_array_equal(trace.experts_TLK, rows(content, k))
    assert f"--k is {columns + 1}, allowed 1..{columns}" in refusal(
        "sglang-recorder", path, experts=512, layers="all", k=columns + 1
    )


def test_requests_with_names_are_sequences(tmp_path, rng):
    content = tokens_file(
        record(rng, 1, 1, [0, 1, 2, 0, 1], [3, 2], rids=["a", "b"]),
        record(rng, 2, 2, [3, 2, 9], rids=["a", "b", "c"]),
        record(rng, 4, 2, [3], rids=["b"]),
    )
    trace = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
    assert trace.sequence_T.tolist() == [0, 0, 0, 1, 1, 0, 1, 2, 1]
    assert trace.position_T.tolist() == [0, 1, 2, 0, 1, 3, 2, 9, 3]
    assert reuse(trace).pairs_L.tolist() == [3 + 3] * 3
    assert "by the records' rids" in trace.header.notes["sequences"]
    del content["records"][1]["rids"]
    trace = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
    assert trace.sequence_T.tolist() == [0, 0, 0, 1, 1, 2, 3, 4, 5]
    assert "keeps no request ids" in trace.header.notes["sequences"]


@pytest.mark.parametrize(
    ("rids", "message"),
    [
        (["a"], "1 rids, allowed 2, the requests"),
        ("ab", "rids is 'ab', allowed a list"),
        (["a", "a"], "allowed each once"),
    ],
)
def test_names_that_do_not_fit_are_refused(tmp_path, rng, rids, message):
    content = tokens_file(record(rng, 1, 1, [0, 1, 2, 0, 1], [3, 2], rids=rids))
    assert message in refusal("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)


def test_idle_passes_have_no_rows(tmp_path, rng):
    content = tokens_file(
        record(rng, 1, 1, range(6), [6]), record(rng, 2, 4, []), record(rng, 3, 2, [6, 9]), record(rng, 4, "IDLE", [])
    )
    trace = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
    assert (trace.T, trace.step_T.tolist()) == (8, [1] * 6 + [3, 3])
    assert trace.header.notes["left_out"] == ["2 of 4 passes, without tokens (idle)"]
    content["records"] = [content["records"][1]]
    assert "no pass has tokens" in refusal("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)


def test_a_pass_may_mix_prompts_and_decoded_tokens(tmp_path, rng):
    """Requests of one token behind others are decoded; a prompt may begin with one token, and a mode has a name too."""
    for mode in (3, "mixed", "ForwardMode.MIXED"):
        content = tokens_file(record(rng, 1, 1, range(4), [4]), record(rng, 2, mode, [0, 1, 2, 4, 0], [3, 1, 1]))
        trace = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
        assert trace.phase_T.tolist() == [0] * 4 + [0, 0, 0, 1, 0]
        assert trace.sequence_T.tolist() == [0] * 4 + [1, 1, 1, 2, 3]


def test_drafts_that_are_verified_are_decoded_tokens(tmp_path, rng):
    """Several for each request: a chain is one pass of the request; of a tree, tokens beside each other stand alone."""
    content = tokens_file(record(rng, 1, 5, [7, 8, 9, 3, 4, 5], rids=["a", "b"]))
    trace = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
    assert trace.phase_T.tolist() == [1] * 6
    assert trace.sequence_T.tolist() == [0, 0, 0, 1, 1, 1]
    content = tokens_file(record(rng, 1, "TARGET_VERIFY", [7, 8, 8, 3, 4, 4], rids=["a", "b"]))
    trace = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
    assert trace.sequence_T.tolist() == [0, 0, 1, 2, 2, 3]
    content["records"][0].pop("rids")
    assert imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS).S == 6
    content["records"][0]["rids"] = ["a", "b", "c", "d"]
    assert "4 rids, allowed a divisor of 6" in refusal("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)


@pytest.mark.parametrize("mode", [0, 6, 9, "draft_extend", None])
def test_other_modes_are_refused_by_number_or_name(tmp_path, rng, mode):
    content = tokens_file(record(rng, 1, mode, [0, 1], [2]))
    assert "record 0: forward_mode is" in refusal("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)


def test_lengths_of_prompts_in_a_pass_that_decodes_are_refused(tmp_path, rng):
    content = tokens_file(record(rng, 1, 2, [0, 1, 2], [3]))
    assert "extend_seq_lens is [3] in a pass that decodes, allowed none, or ones" in refusal(
        "sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS
    )
    content["records"][0]["extend_seq_lens"] = [1, 1, 1]
    assert imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS).S == 3


def test_rows_behind_the_tokens_and_rows_without_a_route(tmp_path, rng):
    content = tokens_file(record(rng, 1, 1, range(6), [6]), record(rng, 2, 2, [6, 9]))
    ids = content["records"][1]["topk_ids_of_layer"]
    content["records"][1]["topk_ids_of_layer"] = torch.cat([ids, ids[:, :1]], 1)
    path = saved(tmp_path / "x.pt", content)
    assert "experts in 1 rows behind the 2 input_ids: stale padding; allowed: --leave-out padding" in refusal(
        "sglang-recorder", path, **OPTIONS
    )
    trace = imported("sglang-recorder", path, **OPTIONS, leave_out=("padding",))
    assert trace.header.notes["left_out"] == ["1 rows of padding behind the tokens of their pass"]
    np.testing.assert_array_equal(trace.experts_TLK, rows(content))
    content["records"][0]["topk_ids_of_layer"][:, 2:4] = -1
    path = saved(tmp_path / "x.pt", content)
    assert "--leave-out unrouted" in refusal("sglang-recorder", path, **OPTIONS, leave_out=("padding",))
    trace = imported("sglang-recorder", path, **OPTIONS, leave_out=("padding", "unrouted"))
    assert trace.position_T.tolist() == [0, 1, 4, 5, 6, 9]
    assert reuse(trace).pairs_L.tolist() == [2] * 3


def test_ranks_with_tokens_of_their_own_are_joined(tmp_path, rng):
    contents = [
        tokens_file(record(rng, 1, 1, range(4), [4], rank=rank), record(rng, 2, 2, [4] * (rank + 1), rank=rank))
        for rank in (0, 1)
    ]
    paths = [saved(tmp_path / f"{rank}.pt", content) for rank, content in enumerate(contents)]
    trace = imported("sglang-recorder", *reversed(paths), **OPTIONS)
    assert trace.rank_T.tolist() == [0] * 4 + [1] * 4 + [0, 1, 1]
    assert trace.sequence_T.tolist() == [0] * 4 + [1] * 4 + [2, 3, 4]
    assert trace.step_T.tolist() == [1] * 8 + [2] * 3
    for rank, content in enumerate(contents):
        np.testing.assert_array_equal(trace.experts_TLK[trace.rank_T == rank], rows(content))
    copied = tokens_file(*(each | {"rank": 1} for each in contents[0]["records"]))
    saved(paths[1], copied)
    assert "hold the same experts of all 4 tokens" in refusal("sglang-recorder", *paths, **OPTIONS)
    contents[1]["last_physical_to_logical_map"] = torch.arange(15, -1, -1).repeat(3, 1)
    saved(paths[1], contents[1])
    assert "is another than that of" in refusal("sglang-recorder", *paths, **OPTIONS)


def test_a_map_may_come_from_another_file(tmp_path, rng):
    content = tokens_file(record(rng, 1, 1, range(9), [9], experts=16))
    plain = imported("sglang-recorder", saved(tmp_path / "x.pt", content), **OPTIONS)
    turned = np.arange(15, -1, -1)
    (tmp_path / "map.json").write_text(json.dumps({"physical_to_logical_map": [turned.tolist()] * 3}))
    assert "is another than that of --map" in refusal(
        "sglang-recorder", tmp_path / "x.pt", **OPTIONS, id_map=tmp_path / "map.json"
    )
    del content["last_physical_to_logical_map"]
    path = saved(tmp_path / "x.pt", content)
    mapped = imported("sglang-recorder", path, **OPTIONS, id_map=tmp_path / "map.json")
    np.testing.assert_array_equal(mapped.experts_TLK, turned[plain.experts_TLK])


def passes_file(counts_SLE, rank):
    records = [
        {
            "forward_pass_id": at,
            "rank": rank,
            "gatherer_key": "primary",
            "global_physical_count": torch.tensor(count_LE),
        }
        for at, count_LE in enumerate(counts_SLE.astype(np.int32), 1)
    ]
    return {"records": records, "last_physical_to_logical_map": torch.arange(counts_SLE.shape[2]).repeat(3, 1)}


@pytest.fixture
def local(rng):
    """Counts of 4 passes, 3 layers, 16 experts, 40 selections each, and the two halves that two ranks saw."""
    whole = rng.multinomial(40, np.ones(16) / 16, (4, 3))
    first = whole * (np.arange(16) < 8)
    return whole, first, whole - first


def test_counts_of_a_ranks_own_experts_are_rank_local(tmp_path, local):
    whole, *parts = local
    paths = [saved(tmp_path / f"{rank}.pt", passes_file(part, rank)) for rank, part in enumerate(parts)]
    loads = imported("sglang-recorder", *paths, **OPTIONS)
    assert loads.notes["counts"].startswith("rank-local: each rank counted what its own experts received")
    np.testing.assert_array_equal(loads.load_SRMLE.sum((1, 2)), whole)
    np.testing.assert_array_equal(loads.load_SRMLE[:, 0, 0], parts[0])
    line = refusal("sglang-recorder", paths[0], **OPTIONS)
    assert line.endswith("estimates with --approximate; of experts spread over ranks the files of all ranks")


def test_totals_that_differ_are_damage_where_ranks_share_experts_or_sums_differ(tmp_path, local):
    _, first, second = local
    shared = second.copy()
    shared[1, 1, 0] += 2
    lost = second.copy()
    lost[2, 1, 9] += 2
    for part in (shared, lost):
        paths = [saved(tmp_path / f"{rank}.pt", passes_file(each, rank)) for rank, each in enumerate((first, part))]
        assert "all layers see the same tokens" in refusal("sglang-recorder", *paths, **OPTIONS)


def test_estimates_pass_where_they_are_called_so(tmp_path, rng):
    counts = rng.integers(1, 50, (5, 3, 16)).astype(np.int32)
    path = saved(tmp_path / "x.pt", {"rank": 0, "logical_count": torch.tensor(counts)})
    assert "all layers see the same tokens; estimates with --approximate" in refusal("sglang-recorder", path, **OPTIONS)
    loads = imported("sglang-recorder", path, **OPTIONS, approximate=True)
    np.testing.assert_array_equal(loads.load_SRMLE[:, 0, 0], counts)
    assert loads.notes["counts"].startswith("approximate: ")


def test_options_for_tokens_mean_nothing_for_counts(tmp_path, rng, local):
    path = saved(tmp_path / "x.pt", passes_file(local[0], 0))
    for name, value in (("leave_out", ("padding",)), ("unrouted", "keep"), ("ranked", True)):
        line = refusal("sglang-recorder", path, **OPTIONS, **{name: value})
        assert line == f"sglang-recorder: --{name.replace('_', '-')} means nothing for files of mode per_pass"
