"""Tables of selections: every form comes back as the same trace; what is missing, twice or no id is refused."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importing import imported, refusal, selections

from moe_replay.traces.file.trace_file import save_trace

LAYERS = (3, 5)  # layer ids skip dense layers


@pytest.fixture
def made(rng):
    """Two requests of 5 and 4 tokens: experts [T, L, K], the names of their sequences, their token numbers."""
    experts = selections(rng, 9, 2, 3, 16, np.int64)
    return experts, ["r1"] * 5 + ["r0"] * 4, [0, 1, 2, 3, 4, 0, 1, 2, 3]


def entries(made):
    """A row for every selection: (sequence, token, layer, slot, expert)."""
    experts, names, tokens = made
    return [
        (names[t], tokens[t], layer, slot, int(experts[t, at, slot]))
        for t in range(len(names))
        for at, layer in enumerate(LAYERS)
        for slot in range(experts.shape[2])
    ]


def rows(made):
    """A row for every token and layer: (sequence, token, layer, experts)."""
    experts, names, tokens = made
    return [(names[t], tokens[t], layer, experts[t, at].tolist()) for t in range(9) for at, layer in enumerate(LAYERS)]


def long_csv(path, made, header="req_id,token_idx,layer,rank,expert", end="\n"):
    path.write_text(end.join([header, *(",".join(map(str, each)) for each in entries(made))]) + end)


def long_upper(path, made):
    long_csv(path, made, "Request_ID,Token,LAYER ID,Slot,Expert", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())


def long_shuffled(path, made):
    held = entries(made)
    order = [0, *(1 + np.random.default_rng(1).permutation(len(held) - 1))]  # the first sequence stays the first
    lines = ["# a comment", "seq\ttoken\tlayer\tslot\texpert"]
    path.write_text("\n".join([*lines, *("\t".join(map(str, held[at])) for at in order)]))


def long_parquet(path, made):
    columns = dict(
        zip(("sequence", "position", "il", "slot", "expert_id"), zip(*entries(made), strict=True), strict=True)
    )
    pq.write_table(pa.table({name: list(each) for name, each in columns.items()}), path)


def jsonl(path, made):
    lines = [{"type": "meta", "layers_logged": [3, 5], "layer_count": 2}]
    lines += [
        {"req_id": s, "token_idx": t, "layer": f"model.layers.{n}.mlp", "topk_ids": e} for s, t, n, e in rows(made)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))


def jsonl_of_two_types(path, made):
    """A remark in which a field is of another type: the columnar reader gives up, the answer stays the same."""
    jsonl(path, made)
    path.write_text(json.dumps({"topk_ids": None, "layer": None, "note": float("nan")}) + "\n" + path.read_text())


def text_lists(path, made):
    lines = [f'{s},{t},{n},"[{", ".join(map(str, e))}]"' for s, t, n, e in rows(made)]
    path.write_text("\n".join(["seq_id,pos,layer_idx,experts", *lines]))


def slot_columns(path, made):
    lines = [f"{s};{t};{n};{';'.join(map(str, e))}" for s, t, n, e in rows(made)]
    path.write_text("\n".join(["sequence;token;layer;expert_1;expert_2;expert_3", *lines]))


def json_objects(path, made):
    names = ("sequence", "token", "layer", "experts")
    path.write_text(json.dumps({"model": "m", "rows": [dict(zip(names, each, strict=True)) for each in rows(made)]}))


def json_columns(path, made):
    names = ("sequence", "token", "layer", "experts")
    columns = {name: list(each) for name, each in zip(names, zip(*rows(made), strict=True), strict=True)}
    path.write_text(json.dumps(columns))


def arrays(path, made):
    sequence, token, layer, experts = zip(*rows(made), strict=True)
    np.savez(path, sequence=np.array(sequence), token=token, layer=layer, experts=np.array(experts, np.uint8))


def cell_columns(path, made):
    experts, names, tokens = made
    header = [f"layer_{layer}_expert_{slot}" for layer in LAYERS for slot in range(3)]
    lines = [",".join(map(str, (names[t], tokens[t], *experts[t].ravel()))) for t in range(9)]
    path.write_text("\n".join([",".join(["sequence", "token", *header]), *lines]))


def layer_columns(path, made):
    experts, names, tokens = made
    held = {f"L{layer}": [each.tolist() for each in experts[:, at]] for at, layer in enumerate(LAYERS)}
    pq.write_table(pa.table({"sequence": names, "token": tokens, **held}), path)


def nested(path, made):
    experts, names, tokens = made
    lines = [{"sequence": names[t], "token": tokens[t], "routed_experts": experts[t].tolist()} for t in range(9)]
    path.write_text("\n".join(map(json.dumps, lines)))


def by_request(path, made):
    experts, _, _ = made
    lines = [{"request_id": n, "experts": e.tolist()} for n, e in (("r1", experts[:5]), ("r0", experts[5:]))]
    path.write_text("\n".join(map(json.dumps, lines)))


def by_batch(path, made):
    """What a hook prints that sees a layer's tokens at once, a request after another."""
    experts, _, _ = made
    lines = [
        {"sequence": name, "layer": layer, "topk_ids": experts[part, at].tolist()}
        for name, part in (("r1", slice(0, 5)), ("r0", slice(5, 9)))
        for at, layer in enumerate(LAYERS)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))


FORMS = {
    long_csv: ".csv", long_upper: ".csv", long_shuffled: ".tsv", long_parquet: ".parquet", jsonl: ".jsonl",
    jsonl_of_two_types: ".jsonl", text_lists: ".csv", slot_columns: ".csv", json_objects: ".json",
    json_columns: ".json", arrays: ".npz", cell_columns: ".csv", layer_columns: ".parquet", nested: ".jsonl",
    by_request: ".jsonl", by_batch: ".jsonl",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_is_the_same_trace(tmp_path, made, form):
    path = tmp_path / f"mine{FORMS[form]}"
    form(path, made)
    trace = imported("table", path, experts=16, phase="prefill", layers="3,5")
    np.testing.assert_array_equal(trace.experts_TLK, made[0])
    assert trace.sequence_T.tolist() == [0] * 5 + [1] * 4
    assert trace.position_T.tolist() == made[2]
    assert trace.header.model.layer_ids == LAYERS
    assert trace.header.model.used_k == 3
    assert trace.header.ranked == (form is long_csv)  # its column says rank


def test_columns_are_named_where_nothing_tells_them(tmp_path, made):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join(",".join(map(str, each[1:3] + each[4:])) for each in entries(made)[:30]))
    assert "no column of experts; it holds 0, 1, 2" in refusal("table", path, experts=16, phase="decode")
    trace = imported("table", path, experts=16, phase="decode", columns=("token=0", "layer=1", "expert=2"))
    np.testing.assert_array_equal(trace.experts_TLK, made[0][:5])
    assert trace.step_T.tolist() == [0, 1, 2, 3, 4]
    assert "--column is 'tokens=0'" in refusal("table", path, experts=16, columns=("tokens=0",))
    assert "no column 'x'" in refusal("table", path, experts=16, columns=("token=x",))


def test_scores_phases_steps_and_ranks_are_kept(tmp_path):
    header = "step,req_id,pos,layer,phase,dp_rank,topk_ids,topk_weights"
    lines = [
        "7,a,0,1,prompt,0,[3 1],[0.5 0.25]", "7,a,1,1,prompt,0,[2 0],[0.5 0.5]", "7,b,0,1,prompt,1,[1 0],[0.75 0.0]",
        "9,a,2,1,decode,0,[0 1],[1.0 0.0]", "9,b,1,1,decode,1,[3 0],[0.5 0.25]",
    ]  # fmt: skip
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([header, *lines]))
    trace = imported("table", path, experts=4, score_kind="sigmoid")
    assert trace.step_T.tolist() == [7, 7, 7, 9, 9]
    assert trace.sequence_T.tolist() == [0, 0, 1, 0, 1]
    assert trace.phase_T.tolist() == [0, 0, 0, 1, 1]
    assert trace.rank_T.tolist() == [0, 0, 1, 0, 1]
    assert trace.scores_TLK[:, 0].tolist() == [[0.5, 0.25], [0.5, 0.5], [0.75, 0], [1, 0], [0.5, 0.25]]
    assert "needed: --score-kind" in refusal("table", path, experts=4)
    assert imported("table", path, experts=4, score_kind="none").scores_TLK is None


def test_prompt_lengths_tell_phases(tmp_path):
    path = tmp_path / "mine.jsonl"
    lines = [{"rid": 5, "prompt_tokens": 2, "experts": [[[0]], [[1]], [[2]]]}]
    lines += [{"rid": 3, "prompt_tokens": 1, "experts": [[[1]], [[0]]]}]
    path.write_text("\n".join(map(json.dumps, lines)))
    trace = imported("table", path, experts=3, phase="both")
    assert trace.phase_T.tolist() == [0, 0, 1, 0, 1]
    assert trace.step_T.tolist() == [0, 0, 1, 2, 3]
    assert trace.prompt_len_S.tolist() == [2, 1]


def test_several_files_continue_a_sequence_or_are_one_each(tmp_path, made):
    held = entries(made)
    for at, part in enumerate((held[:12], held[12:])):
        lines = [",".join(map(str, each)) for each in part]
        (tmp_path / f"part{at}.csv").write_text("\n".join(["seq,token,layer,slot,expert", *lines]))
    paths = [tmp_path / "part0.csv", tmp_path / "part1.csv"]
    np.testing.assert_array_equal(imported("table", *paths, experts=16, phase="prefill").experts_TLK, made[0])
    assert "the same bytes" in refusal("table", paths[0], paths[0], experts=16, phase="prefill")
    for at, part in enumerate((held[:30], held[30:])):
        lines = [",".join(map(str, each[1:])) for each in part]
        (tmp_path / f"part{at}.csv").write_text("\n".join(["token,layer,slot,expert", *lines]))
    trace = imported("table", *paths, experts=16, phase="prefill")
    assert trace.sequence_T.tolist() == [0] * 5 + [1] * 4


BASE = ["seq,token,layer,slot,expert"]
GOOD = [f"a,{t},{n},{s},{(3 * t + 5 * n + s) % 16}" for t in range(4) for n in (3, 5) for s in range(3)]


@pytest.mark.parametrize(
    ("lines", "options", "says"),
    [
        ([], {}, "no rows"),
        ([*GOOD, GOOD[-1]], {}, "slot is 2, allowed 3"),
        (GOOD[:-1], {}, "layer 5: 2 experts, allowed 3 in every row; --varying-k"),
        (GOOD[:-1], {"k": 3}, "2 experts, allowed 3"),
        (GOOD, {"k": 2}, "3 experts, allowed 2 in every row"),
        (GOOD[:-3], {}, "no row of layer 5, allowed: one in every layer"),
        (GOOD[:6] + GOOD[12:], {}, "token 2 comes after 0, allowed: none missing"),
        ([*GOOD[:-1], "a,3,5,1,9"], {}, "allowed 2: every slot once"),
        ([*GOOD[:-1], "a,3,5,2,16"], {}, "expert is 16, allowed -1..15"),
        ([*GOOD[:-1], "a,3,5,2,-2"], {}, "expert is -2, allowed"),
        ([*GOOD[:-1], "a,3,5,2,1.5"], {}, "row 24 is 1.5, allowed whole numbers"),
        ([*GOOD[:-1], "a,3,5,2,"], {}, "row 24: expert is empty"),
        ([*GOOD[:-1], "a,3,5,2,x"], {}, "text, allowed numbers"),
        ([*GOOD[:-1], "a,3,5,2"], {}, "not a whole CSV file"),
        (GOOD, {"phase": None}, "needed: --phase"),
        (GOOD, {"phase": "both"}, "--phase both needs a column prompt_len"),
        (GOOD, {"layers": "3-4"}, "no layer 4 of --layers"),
        (GOOD, {"layers": "3"}, "layer 1 is not in --layers, but holds experts"),
        (GOOD, {"score_kind": "softmax"}, "has no scores for --score-kind"),
        (GOOD, {"experts": None}, "needed: --experts"),
        ([*GOOD, "a,99999999999,5,0,1"], {"varying_k": True}, "allowed 0..2147483646"),
        ([*GOOD, "a,2000000000,3,0,1"], {"unrouted": "keep", "varying_k": True}, "comes after 3"),
    ],
)  # fmt: skip
def test_what_is_no_whole_table_is_refused_with_its_place(tmp_path, lines, options, says):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([*BASE, *lines]) + "\n")
    line = refusal("table", path, **{"experts": 16, "phase": "prefill"} | options)
    assert says in line
    assert str(path) in line or "--" in line


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        ("seq,token\n".encode("utf-16"), "not text in UTF-8"),
        (b"layer,layer,expert,token\n1,1,1,1\n", "two columns are called 'layer'"),
        (b"layer,expert,token_id\n1,1,1\n", "no column for token; it holds layer, expert, token_id"),
        (b"pos,token,layer,expert\n1,1,1,1\n", "may both be token; allowed: --column token=NAME"),
        (b"layer,experts,token\nx1y2,[1],0\n", "allowed a name with one number"),
        (b"a\x00b\n", "not text"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, says):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    assert says in refusal("table", path, experts=16, phase="prefill")
    assert "no such file" in refusal("table", tmp_path / "absent.csv", experts=16, phase="prefill")


def test_missing_rows_can_be_kept_without_a_route(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([*BASE, *GOOD[:6], *GOOD[12:-3]]))  # token 1, and layer 5 of token 3
    trace = imported("table", path, experts=16, phase="decode", unrouted="keep")
    assert trace.position_T.tolist() == [0, 1, 2, 3]
    assert (trace.experts_TLK[:, :, 0] >= 0).tolist() == [[True, True], [False, False], [True, True], [True, False]]


def test_numbers_of_experts_may_vary_where_it_is_said(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text("\n".join([*BASE, *GOOD[:-1]]))
    trace = imported("table", path, experts=16, phase="decode", varying_k=True)
    assert trace.experts_TLK[3, 1].tolist() == [2, 3, -1]
    path.write_text("token,layer,experts\n0,1,3 5 -1\n1,1,2 1 0\n")  # padded lists
    trace = imported("table", path, experts=16, phase="decode", varying_k=True)
    assert trace.experts_TLK[:, 0].tolist() == [[3, 5, -1], [2, 1, 0]]


def test_ids_from_one_on(tmp_path):
    path = tmp_path / "mine.csv"
    lines = [f"{t},1,{1 + t % 4} {1 + (t + 2) % 4}" for t in range(40)]
    path.write_text("\n".join(["token,layer,experts", *lines]))
    assert "as if counted from 1; allowed 0..3, or --first-expert 1" in refusal(
        "table", path, experts=4, phase="decode"
    )
    trace = imported("table", path, experts=4, phase="decode", first_expert=1)
    assert trace.experts_TLK[:2, 0].tolist() == [[0, 2], [1, 3]]
    assert (
        "allowed from --first-expert 1 on"
        in refusal("table", path.with_name("b.csv"), experts=4, phase="decode", first_expert=1)
        if path.with_name("b.csv").write_text("token,layer,experts\n0,1,0 1\n")
        else None
    )


def test_a_route_trace_of_one_token_a_step(tmp_path):
    """Comments above the header, columns that mean nothing here, and steps in the place of tokens."""
    path = tmp_path / "route.csv"
    lines = [
        f"{turn},{'prefill' if step == 0 else 'decode'},{step},{n},{s},{(3 * step + n + s + turn) % 8},0.5,hit,1802240"
        for turn in (0, 1) for step in (0, 1, 2) for n in (1, 2) for s in (0, 1)
    ]  # fmt: skip
    header = "turn,phase,step,layer,slot,expert,weight,residency,expert_bytes"
    path.write_text("\n".join(["# route_trace v1", "# n_expert=8 n_expert_used=2", header, *lines]))
    trace = imported("table", path, experts=8, score_kind="none")
    assert (trace.S, trace.phase_T.tolist()) == (2, [0, 1, 1, 0, 1, 1])
    assert trace.experts_TLK[1].tolist() == [[4, 5], [5, 6]]


def test_a_trace_is_no_table(tmp_path, made):
    long_csv(tmp_path / "a.csv", made)
    save_trace(imported("table", tmp_path / "a.csv", experts=16, phase="prefill"), tmp_path / "a.trace.parquet")
    assert "already a file of moe-replay" in refusal("table", tmp_path / "a.trace.parquet", experts=16, phase="prefill")


def test_dense_layers_are_named_away(tmp_path):
    path = tmp_path / "mine.csv"
    lines = [
        f"{t},{n},{0 if n == 0 else (t + n) % 5} {0 if n == 0 else (t + n + 1) % 5}" for t in range(4) for n in range(3)
    ]
    path.write_text("\n".join(["token,layer,experts", *lines]))
    refusal("table", path, experts=5, phase="prefill")
    assert imported("table", path, experts=5, phase="prefill", layers="1-2").header.model.layer_ids == (1, 2)
