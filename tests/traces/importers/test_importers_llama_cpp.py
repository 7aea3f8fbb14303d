"""llama.cpp's forms: streams in the order of evaluation, records, tables and imatrix, against the same selections."""

import numpy as np
import pytest
from importing import imported, refusal, selections

LAYERS, K, E = (1, 2, 4), 2, 16
BATCHES = (5, 3, 1, 1, 1)  # a prompt in two pieces, three decoded tokens


@pytest.fixture
def experts(rng):
    return selections(rng, sum(BATCHES), len(LAYERS), K, E, np.int64)


def blocks(experts, batches=BATCHES, last_only=False):
    """(layer, experts [tokens, k]) in the order of evaluation; `last_only`: the last layer computes a last token."""
    start = 0
    for tokens in batches:
        for at, layer in enumerate(LAYERS):
            part = experts[start : start + tokens, at]
            yield layer, part[-1:] if last_only and at == len(LAYERS) - 1 else part
        start += tokens


def stream(path, held):
    rows = [f"{layer},{expert}" for layer, part in held for expert in part.ravel()]
    path.write_text("\n".join(["layer,expert", *rows]) + "\n")


def records(path, held, heads=lambda layer, tokens: (layer, tokens, K)):
    words = [np.concatenate([heads(layer, len(part)), part.ravel()]) for layer, part in held]
    path.write_bytes(np.concatenate(words).astype("<i4").tobytes())


FORMS = {
    "csv": (stream, ".csv", {"k": K}),
    "records": (records, ".bin", {}),
    "records, k first": (lambda p, h: records(p, h, lambda layer, n: (layer, K, n)), ".bin", {"k": K}),
    "pairs": (
        lambda p, h: p.write_bytes(
            np.array([(n, e) for n, part in h for e in part.ravel()], "<i4").tobytes()
        ), ".bin", {"k": K},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_stream_falls_into_tokens(tmp_path, experts, form):
    write, suffix, options = FORMS[form]
    path = tmp_path / f"moe_trace{suffix}"
    write(path, list(blocks(experts)))
    trace = imported("llama-cpp", path, experts=E, **options)
    np.testing.assert_array_equal(trace.experts_TLK, experts)
    assert trace.header.model.layer_ids == LAYERS
    assert trace.step_T.tolist() == [0] * 5 + [1] * 3 + [2, 3, 4]
    assert trace.phase_T.tolist() == [0] * 8 + [1] * 3
    assert (trace.S, trace.position_T.tolist()) == (1, list(range(11)))


def test_the_last_layer_computes_the_last_token_of_a_prompt(tmp_path, experts):
    stream(tmp_path / "t.csv", blocks(experts, last_only=True))
    trace = imported("llama-cpp", tmp_path / "t.csv", experts=E, k=K)
    there = trace.experts_TLK[:, :, 0] >= 0
    assert there[:, :2].all()
    assert there[:, 2].tolist() == [False] * 4 + [True] + [False] * 2 + [True] * 4
    np.testing.assert_array_equal(trace.experts_TLK[there], experts[there])
    assert "last layer" in trace.header.notes["last_layer"]


def test_another_prompt_and_an_appended_file_begin_sequences(tmp_path, experts):
    path = tmp_path / "t.csv"
    stream(path, list(blocks(experts, (4, 1, 4, 1, 1))))
    trace = imported("llama-cpp", path, experts=E, k=K)
    assert trace.sequence_T.tolist() == [0] * 5 + [1] * 6
    assert trace.phase_T.tolist() == [0] * 4 + [1] + [0] * 4 + [1, 1]
    stream(path, list(blocks(experts[:4], (3, 1))))
    one = path.read_text()
    stream(path, list(blocks(experts[4:], (1, 1, 1, 1, 1, 1, 1))))
    path.write_text(one + path.read_text())  # as `cat a.csv b.csv` leaves it, header and all
    trace = imported("llama-cpp", path, experts=E, k=K)
    np.testing.assert_array_equal(trace.experts_TLK, experts)
    assert trace.sequence_T.tolist() == [0] * 4 + [1] * 7
    assert trace.phase_T.tolist() == [0] * 3 + [1] + [0] + [1] * 6


def test_one_layer_does_not_tell_its_batches(tmp_path, experts):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["layer,expert", *(f"7,{e}" for e in experts[:, 0].ravel())]))
    assert "needed: --phase prefill or decode" in refusal("llama-cpp", path, experts=E, k=K)
    assert imported("llama-cpp", path, experts=E, k=K, phase="decode").step_T.tolist() == list(range(11))
    assert imported("llama-cpp", path, experts=E, k=K, phase="prefill").step_T.tolist() == [0] * 11


def test_what_is_no_whole_stream_is_refused(tmp_path, experts):
    path, held = tmp_path / "t.csv", list(blocks(experts))
    stream(path, held)
    whole = path.read_text().splitlines()
    assert "needed: --k" in refusal("llama-cpp", path, experts=E)
    assert "needed: --experts" in refusal("llama-cpp", path, k=K)
    assert "allowed a multiple of --k 4" in refusal("llama-cpp", path, experts=E, k=4)
    for lines, says in (
        (whole[:-1], "allowed a multiple of --k 2"),
        (whole[:-2], "batch 4 has no rows of layer 4"),
        (whole[:1] + whole[3:], "4 tokens in layer 1, allowed 5 as in its other layers"),
        ([*whole, "1,-3", "1,0"], "expert is -3"),
        ([*whole[:-1], "4,16"], "expert is 16, allowed"),
    ):
        path.write_text("\n".join(lines))
        assert says in refusal("llama-cpp", path, experts=E, k=K)


def test_records_that_do_not_fit(tmp_path, experts):
    path = tmp_path / "t.bin"
    records(path, blocks(experts))
    whole = path.read_bytes()
    for content, says in (
        (whole[:-4], "not whole records"), (whole[:-2], "allowed whole records of 32-bit numbers"), (b"", "0 bytes"),
    ):  # fmt: skip
        path.write_bytes(content)
        assert says in refusal("llama-cpp", path, experts=E)
    both = [(layer, experts[:2, at]) for at, layer in enumerate(LAYERS)]  # two tokens of two: either head would do
    records(path, both)
    np.testing.assert_array_equal(imported("llama-cpp", path, experts=E).experts_TLK, experts[:2])
    other = np.concatenate([np.concatenate([[-10002, 2, 2], [0, 1, 2, 3]]), np.frombuffer(whole, "<i4")])
    path.write_bytes(other.astype("<i4").tobytes())
    trace = imported("llama-cpp", path, experts=E)
    np.testing.assert_array_equal(trace.experts_TLK, experts)
    said = "1 records that hold no experts: of layers below 0, such as probabilities"
    assert trace.header.notes["left_out"] == [said]


@pytest.mark.parametrize("order", [0, 1])
def test_records_of_probabilities_are_refused_by_name(tmp_path, rng, order):
    """No choice of experts follows from them: routers add biases, and choose within groups."""
    path, words = tmp_path / "p.bin", []
    for layer in (0, 1, 0, 1):
        rows = rng.dirichlet(np.ones(E), 3).astype("<f4").view("<i4").ravel()
        words.append(np.concatenate([(layer, *((3, E), (E, 3))[order]), rows]))
    path.write_bytes(np.concatenate(words).astype("<i4").tobytes())
    said = refusal("llama-cpp", path, experts=E, k=E)
    assert f"records hold {E} floats of 0..1 per token: probabilities, not the experts" in said
    below = [np.concatenate([[-1 - each[0]], each[1:]]) for each in words]
    path.write_bytes(np.concatenate(below).astype("<i4").tobytes())
    said = refusal("llama-cpp", path, experts=E)
    assert "4 records that hold no experts: of layers below 0, such as probabilities, and no other" in said


def test_a_long_file_of_records_is_read_in_runs(tmp_path, rng):
    experts = selections(rng, 9000, 2, K, E, np.int64)
    held = [(layer, experts[t : t + 1, at]) for t in range(9000) for at, layer in enumerate((0, 1))]
    records(tmp_path / "t.bin", held)
    assert "records of 2 or of 1 experts per token; allowed: --k" in refusal("llama-cpp", tmp_path / "t.bin", experts=E)
    trace = imported("llama-cpp", tmp_path / "t.bin", experts=E, k=K)
    np.testing.assert_array_equal(trace.experts_TLK, experts)


def test_every_selection_with_its_place(tmp_path, experts):
    rows = [
        f"{'prefill' if t < 8 else 'decode'},{t},{layer},{slot},{experts[t, at, slot]}"
        for t in range(11) for at, layer in enumerate(LAYERS) for slot in range(K)
    ]  # fmt: skip
    path = tmp_path / "routing.csv"
    path.write_text("\n".join(["phase,token,layer,rank,expert", *rows]))
    trace = imported("llama-cpp", path, experts=E)
    np.testing.assert_array_equal(trace.experts_TLK, experts)
    assert trace.phase_T.tolist() == [0] * 8 + [1] * 3
    assert trace.header.ranked


def imatrix(path, counts, chunks=(2, 20), kind="imatrix", parts=("gate", "up", "down")):
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(path, "x")
    writer.add_type(kind)
    if chunks:
        writer.add_uint32("imatrix.chunk_count", chunks[0])
        writer.add_uint32("imatrix.chunk_size", chunks[1])
    for layer, count_E in counts.items():
        for part in parts:
            name = f"blk.{layer}.ffn_{part}_exps.weight"
            writer.add_tensor(f"{name}.in_sum2", np.ones((len(count_E), 4), np.float32))
            writer.add_tensor(f"{name}.counts", np.asarray(count_E, np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_counts_of_an_imatrix(tmp_path, rng):
    counts = {layer: rng.multinomial(80, [1 / 8] * 8) for layer in (1, 10, 2)}
    imatrix(tmp_path / "i.gguf", counts)
    made = imported("llama-cpp", tmp_path / "i.gguf")
    assert (made.model.layer_ids, made.model.experts, made.model.used_k) == ((1, 2, 10), 8, 2)  # 80 of 40 tokens
    np.testing.assert_array_equal(made.load_LE, [counts[1], counts[2], counts[10]])
    assert "8 experts, but --experts is 9" in refusal("llama-cpp", tmp_path / "i.gguf", experts=9)
    imatrix(tmp_path / "n.gguf", counts, chunks=None)
    assert "needed: --k" in refusal("llama-cpp", tmp_path / "n.gguf")
    assert imported("llama-cpp", tmp_path / "n.gguf", k=4).model.used_k == 4
    for options, says in (
        ({"kind": "model"}, "general.type 'model', allowed imatrix"),
        ({"parts": ()}, "no tensor blk.N.ffn_*_exps.weight.counts"),
    ):
        imatrix(tmp_path / "o.gguf", counts, **options)
        assert says in refusal("llama-cpp", tmp_path / "o.gguf")
    imatrix(tmp_path / "f.gguf", {1: [0.5, 1.5]})
    assert "allowed whole numbers" in refusal("llama-cpp", tmp_path / "f.gguf", k=1)
    (tmp_path / "f.gguf").write_bytes(b"nothing")
    assert "not a GGUF file" in refusal("llama-cpp", tmp_path / "f.gguf", k=1)
