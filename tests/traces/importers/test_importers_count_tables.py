"""Plain counts: every form of a file is the same load trace; several files are ranks or iterations, and line up."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importing import imported, refusal

LAYERS = (3, 4)


@pytest.fixture
def load(rng):
    """Counts [L, E]: two layers, eight experts, 60 tokens of two experts; expert 7 gets nothing in layer 3."""
    counts = np.stack([rng.multinomial(120, np.append(np.full(7, 1 / 7), 0)), rng.multinomial(120, [1 / 8] * 8)])
    return counts.astype(np.int64)


def long_lines(load, rank=None):
    first = [] if rank is None else [rank]
    return [
        ",".join(map(str, [*first, layer, expert, load[at, expert]]))
        for at, layer in enumerate(LAYERS)
        for expert in range(8)
        if load[at, expert]
    ]


def long_csv(path, load):
    path.write_text("\n".join(["layer_id,expert_id,count", *long_lines(load)]))


def long_bom(path, load):
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(["Layer,Expert,Tokens", *long_lines(load)]).encode())


def wide_csv(path, load):
    header = ",".join(["layer", *(f"expert_{e}" for e in range(8))])
    path.write_text("\n".join([header, *(",".join(map(str, [n, *load[at]])) for at, n in enumerate(LAYERS))]))


def pandas_csv(path, load):
    rows = [",".join(map(str, [n, *load[at]])) for at, n in enumerate(LAYERS)]
    path.write_text("\n".join([",0,1,2,3,4,5,6,7", *rows]))


def by_layer(path, load):
    path.write_text(json.dumps({f"layer_{n}": load[at].tolist() for at, n in enumerate(LAYERS)}))


def by_layer_and_expert(path, load):
    held = {n: {str(e): int(c) for e, c in enumerate(load[at]) if c} for at, n in enumerate(LAYERS)}
    path.write_text(json.dumps(held))


def json_lists(path, load):
    path.write_text(json.dumps({"model": "m", "logical_count": load.tolist(), "layer_ids": LAYERS}))


def jsonl(path, load):
    lines = [{"layer": n, "counts": load[at].tolist()} for at, n in enumerate(LAYERS)]
    path.write_text("\n".join(map(json.dumps, lines)))


def parquet(path, load):
    layer, expert = np.repeat(LAYERS, 8), np.tile(np.arange(8), 2)
    pq.write_table(pa.table({"layer": layer, "expert": expert, "count": load.ravel().astype(float)}), path)


def npz(path, load):
    np.savez(path, loads=load.astype(np.float32), layer_numbers=LAYERS)


def pt(path, load):
    torch = pytest.importorskip("torch")
    torch.save({"counts": torch.tensor(load), "layer_ids": np.array(LAYERS)}, path)


FORMS = {
    long_csv: ".csv", long_bom: ".csv", wide_csv: ".csv", pandas_csv: ".csv", by_layer: ".json",
    by_layer_and_expert: ".json", json_lists: ".json", jsonl: ".jsonl", parquet: ".parquet", npz: ".npz", pt: ".pt",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_is_the_same_load(tmp_path, load, form):
    path = tmp_path / f"mine{FORMS[form]}"
    form(path, load)
    made = imported("counts", path, experts=8, k=2)
    np.testing.assert_array_equal(made.load_SRMLE[0, 0, 0], load)
    assert made.model.layer_ids == LAYERS
    assert (made.model.experts, made.model.used_k) == (8, 2)


@pytest.mark.parametrize("suffix", [".npy", ".csv", ".txt", ".json"])
def test_plain_arrays(tmp_path, load, suffix):
    path = tmp_path / f"mine{suffix}"
    if suffix == ".npy":
        np.save(path, load)
    elif suffix == ".json":
        path.write_text(json.dumps(load.tolist()))
    else:
        np.savetxt(path, load, delimiter="," if suffix == ".csv" else " ")
    np.testing.assert_array_equal(imported("counts", path, k=2).load_LE, load)
    assert imported("counts", path, k=2).model.layer_ids == (0, 1)
    assert imported("counts", path, k=2, layers="3-4").model.layer_ids == LAYERS
    assert "8 experts, but --experts is 9" in refusal("counts", path, k=2, experts=9)


def test_axes(tmp_path, rng):
    """Three letters, of which the middle one says what the file's own axes do not."""
    counts = rng.multinomial(40, [1 / 8] * 8, (5, 2, 3))  # [S, R, L, E]
    for name, array, options in (
        ("srle", counts, {}), ("lse", counts[:, 0].transpose(1, 0, 2), {"axes": "LSE"}),
        ("rle", counts[0], {"axes": "RLE"}), ("el", counts[0, 0].T, {"axes": "el"}), ("sle", counts[:, 1], {}),
    ):  # fmt: skip
        np.savez(tmp_path / f"{name}.npz", counts=array)
        made = imported("counts", tmp_path / f"{name}.npz", k=2, **options).load_SRMLE[:, :, 0]
        wanted = {
            "srle": counts, "lse": counts[:, :1], "rle": counts[:1], "el": counts[:1, :1], "sle": counts[:, 1:]
        }  # fmt: skip
        np.testing.assert_array_equal(made, wanted[name])
    assert "--axes LS for 4 axes" in refusal("counts", tmp_path / "srle.npz", k=2, axes="LS")
    np.savez(tmp_path / "numbered.npz", counts=counts[:, 0].transpose(1, 0, 2), layer_ids=[1, 2, 4])
    assert "5 layers, but 3 numbers of them; --axes" in refusal("counts", tmp_path / "numbered.npz", k=2)
    assert imported("counts", tmp_path / "numbered.npz", k=2, axes="LSE").model.layer_ids == (1, 2, 4)


def test_files_of_ranks_and_iterations(tmp_path, rng):
    counts = rng.multinomial(40, [1 / 8] * 8, (2, 2, 2))
    paths = {}
    for i in range(2):
        for r in range(2):
            paths[i, r] = tmp_path / f"dist_rank{r}_iter{10 + i}.csv"
            paths[i, r].write_text("\n".join(["layer,expert,count", *long_lines(counts[i, r])]))
    made = imported("counts", *paths.values(), experts=8, k=2)
    np.testing.assert_array_equal(made.load_SRMLE[:, :, 0], counts)
    assert (made.iteration_S.tolist(), made.rank_R.tolist()) == ([10, 11], [0, 1])
    line = refusal("counts", paths[0, 0], paths[0, 1], paths[1, 1], experts=8, k=2)
    assert "no count of iteration 11, rank 0, allowed: every rank in every iteration" in line
    other = tmp_path / "a.csv"
    other.write_text(paths[0, 0].read_text())
    assert "the same bytes" in refusal("counts", other, paths[0, 0], experts=8, k=2)
    other.write_text(paths[1, 1].read_text())
    assert "--files-are ranks or iterations" in refusal("counts", other, paths[0, 0], experts=8, k=2)
    for told, axis in (("ranks", 1), ("iterations", 0)):
        made = imported("counts", other, paths[0, 0], experts=8, k=2, files_are=told)
        assert made.load_SRMLE.shape[axis] == 2
    with_rank = tmp_path / "both.csv"
    lines = [*long_lines(counts[0, 0], 4), *long_lines(counts[0, 1], 6)]
    with_rank.write_text("\n".join(["rank,layer,expert,count", *lines]))
    assert imported("counts", with_rank, experts=8, k=2).rank_R.tolist() == [4, 6]


def test_ranks_that_counted_their_own_experts(tmp_path, rng):
    """Expert parallel ranks: experts 0..3 on one, 4..7 on the other; only both together are tokens."""
    load = rng.multinomial(40, [1 / 8] * 8, 2)
    for rank in range(2):
        own = load * (np.arange(8) // 4 == rank)
        (tmp_path / f"rank{rank}.csv").write_text("\n".join(["layer,expert,count", *long_lines(own)]))
    paths = [tmp_path / "rank0.csv", tmp_path / "rank1.csv"]
    made = imported("counts", *paths, experts=8, k=2)
    np.testing.assert_array_equal(made.load_LE, load)
    assert made.notes["counts"].startswith("rank-local")
    text = paths[1].read_text()
    paths[1].write_text("\n".join(text.splitlines()[:-1]))  # a count lost
    assert "selections, allowed" in refusal("counts", *paths, experts=8, k=2)
    paths[1].write_text(text)
    assert imported("counts", paths[0], experts=8, k=2, approximate=True).load_LE.sum() == load[:, :4].sum()


LONG = "layer,expert,count\n"


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("", {}, "empty"),
        (LONG, {}, "no rows"),
        (LONG + "0,0,2\n0,0,2\n", {}, "layer 0, expert 0 is there 2 times"),
        (LONG + "0,0,1.5\n0,1,0.5\n", {}, "row 1 is 1.5, allowed whole numbers"),
        (LONG + "0,0,nan\n0,1,2\n", {}, "allowed"),
        (LONG + "0,0,-2\n0,1,4\n", {}, "count is -2, allowed >= 0"),
        (LONG + "0,4,2\n", {}, "row 1: expert is 4, allowed 0..3; --first-expert 1"),
        (LONG + "0,1,2\n1,1,4\n", {}, "4 selections, allowed 2 as in layer 0"),
        (LONG + "0,1,3\n", {}, "3 selections in a layer, allowed a multiple of 2"),
        (LONG + "0,1,0\n", {}, "every count is zero"),
        (LONG + "0,1,2\n2,1,2\n", {"layers": "0"}, "layer 2 is not in --layers, but has counts"),
        (LONG + "0,1,2\n2,1,2\n", {"layers": "0-2"}, "no layer 1 of --layers"),
        (LONG + "0,1,2\n", {"experts": None}, "needed: --experts"),
        (LONG + "0,1,2\n", {"k": None}, "needed: --k"),
        ("a,b\n1,2\n", {}, "allowed: columns layer, expert and count"),
    ],
)
def test_what_cannot_be_counts_is_refused(tmp_path, content, options, says):
    path = tmp_path / "mine.csv"
    path.write_text(content)
    assert says in refusal("counts", path, **{"experts": 4, "k": 2} | options)


@pytest.mark.parametrize(
    ("arrays", "options", "says"),
    [
        ({"counts": np.full((2, 4), 0.25)}, {}, "shares have lost how many tokens there were"),
        ({"counts": np.array([[1, np.inf], [1, 1]])}, {}, "is inf (1 such), allowed whole numbers"),
        ({"counts": np.array([["a", "b"]])}, {}, "allowed numbers [L, E]"),
        ({"counts": np.zeros((0, 4), int)}, {}, "none of them 0"),
        ({"counts": np.ones((1, 4), int), "load": np.ones((1, 4), int)}, {}, "which are the counts? allowed: --array"),
        ({"a": np.ones((1, 4), int), "b": np.ones((1, 4), int)}, {"arrays": ("counts=c",)}, "no array 'c'"),
        ({"counts": np.array([[0, 0, 0, 0], [1, 1, 1, 1]])}, {}, "layer 0 holds only zeros, as a dense layer does"),
    ],
)
def test_arrays_that_cannot_be_counts(tmp_path, arrays, options, says):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    assert says in refusal("counts", path, k=2, **options)


def test_dense_layers_are_named_away(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, counts=[[0, 0, 0, 0], [1, 2, 0, 1], [2, 0, 1, 1]])
    made = imported("counts", path, k=2, layers="1-2")
    assert (made.model.layer_ids, made.load_LE.tolist()) == ((1, 2), [[1, 2, 0, 1], [2, 0, 1, 1]])


def test_experts_counted_from_one(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_text(LONG + "0,1,2\n0,4,4\n")
    assert imported("counts", path, experts=4, k=2, first_expert=1).load_LE.tolist() == [[2, 0, 0, 4]]
