"""`import flame-moe`: files of layers that line up come in as they are, others are refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from importing import imported, refusal, selections

OPTIONS = {"sequence_tokens": 4, "score_kind": "softmax", "ranked": True}
T, K = 24, 6


def layer_table(rng, tokens=T):
    scores = np.sort(rng.dirichlet(np.ones(64), tokens), axis=-1)[:, : -K - 1 : -1].astype(np.float16)
    indices = selections(rng, tokens, 1, K, 64, np.int16)[:, 0]
    return {"scores": list(scores), "indices": list(indices)}


def written(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    types = {"scores": pa.list_(pa.float16()), "indices": pa.list_(pa.int16()), "token_id": pa.int32()}
    held = {
        name: values if isinstance(values, pa.Array) else pa.array(values, types.get(name))
        for name, values in columns.items()
    }
    pq.write_table(pa.table(held), path)
    return path


@pytest.fixture
def folder(tmp_path, rng):
    """Layers 2, 3 and 10 of iteration 100, beside the samples."""
    actives = tmp_path / "actives" / "iter_100"
    tables = {number: layer_table(rng) for number in (2, 3, 10)}
    for number, table in tables.items():
        written(actives / f"layer_{number:02d}.parquet", table)
    written(tmp_path / "samples" / "a.parquet", {"token_id": np.arange(100, 100 + T)})
    return actives, tables


def test_layers_come_in_as_they_are(folder, tmp_path):
    actives, tables = folder
    trace = imported("flame-moe", actives, tmp_path / "samples" / "a.parquet", **OPTIONS)
    assert trace.header.model.layer_ids == (2, 3, 10)
    assert (trace.E, trace.header.model.used_k) == (64, 6)
    for at, table in enumerate(tables.values()):
        assert (trace.experts_TLK[:, at] == np.stack(table["indices"])).all()
        assert (trace.scores_TLK[:, at] == np.stack(table["scores"]).astype(np.float32)).all()
    assert trace.token_id_T.tolist() == list(range(100, 100 + T))
    assert trace.sequence_T.tolist() == np.repeat(np.arange(6), 4).tolist()
    assert trace.position_T.tolist() == [0, 1, 2, 3] * 6
    assert not trace.phase_T.any()


def test_fixed_size_lists_and_single_files_are_the_same(folder, tmp_path):
    actives, tables = folder
    whole = imported("flame-moe", actives, **OPTIONS)
    for number, table in tables.items():
        fixed = {
            name: pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(values)), K)
            for name, values in table.items()
        }
        written(tmp_path / "fixed" / f"layer_{number}.parquet", fixed)
    paths = [tmp_path / "fixed" / f"layer_{number}.parquet" for number in (10, 2, 3)]
    assert imported("flame-moe", *paths, **OPTIONS).digest == whole.digest
    unscored = imported("flame-moe", actives, **OPTIONS | {"score_kind": "none"})
    assert unscored.scores_TLK is None


def changed(table, name, at, value):
    return {**table, name: [np.asarray(value) if row == at else each for row, each in enumerate(table[name])]}


MALFORMED = {
    "an expert too many": (
        lambda t: changed(t, "indices", 3, [0, 1, 2, 3, 4, 64]),
        "row 3, layer 3, slot 5: expert is 64, allowed 0..63",
    ),
    "padding": (lambda t: changed(t, "indices", 3, [0, 1, 2, 3, 4, -1]), "slot 5: expert is -1, allowed 0..63"),
    "an expert twice": (lambda t: changed(t, "indices", 3, [0, 1, 2, 3, 4, 4]), "allowed: each at most once"),
    "a shorter list": (
        lambda t: changed(t, "indices", 3, [0, 1]),
        "row 3: indices has 2 entries, allowed 6 as in row 0",
    ),
    "a row too few": (
        lambda t: {name: values[1:] for name, values in t.items()},
        "23 rows of 6 experts, allowed 24 of 6 as in layer_02.parquet",
    ),
    "fewer experts": (
        lambda t: {name: [each[:5] for each in values] for name, values in t.items()},
        "24 rows of 5 experts, allowed 24 of 6",
    ),
    "no rows": (lambda t: {name: values[:0] for name, values in t.items()}, "no rows, allowed at least one"),
    "scores of another length": (
        lambda t: {**t, "scores": [each[:5] for each in t["scores"]]},
        "scores have shape (24, 5), allowed (24, 6)",
    ),
    "another column": (lambda t: {**t, "weights": t["scores"]}, "columns indices, scores, weights, allowed scores and"),
    "no scores": (lambda t: {"indices": t["indices"]}, "columns indices, allowed scores and indices, or token_id"),
    "a null": (lambda t: {**t, "indices": [None, *t["indices"][1:]]}, "column indices has 1 nulls"),
    "a null in a list": (
        lambda t: {**t, "indices": [[None, 1, 2, 3, 4, 5], *map(list, t["indices"][1:])]},
        "column indices has 1 nulls in its lists",
    ),
    "plain numbers": (lambda t: {**t, "indices": pa.array(range(T))}, "column indices holds int64, allowed lists"),
    "texts": (lambda t: {**t, "indices": pa.array([["a"]] * T)}, "allowed lists of numbers"),
    "indices as fractions": (
        lambda t: {**t, "indices": pa.array([[0.5] * K] * T)},
        "experts are float64, allowed whole numbers",
    ),
    "scores as whole numbers": (
        lambda t: {**t, "scores": pa.array([[1] * K] * T)},
        "scores are int64, allowed floating",
    ),
    "a score that is no number": (lambda t: changed(t, "scores", 3, np.full(K, np.nan)), "score_0 is nan"),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_layers_are_refused(folder, name):
    actives, tables = folder
    change, message = MALFORMED[name]
    written(actives / "layer_03.parquet", change(tables[3]))
    line = refusal("flame-moe", actives, **OPTIONS)
    assert line.startswith(str(actives))
    assert message in line


def test_sets_of_files_that_do_not_fit_are_refused(folder, tmp_path, rng):
    actives, tables = folder
    samples = tmp_path / "samples" / "a.parquet"

    assert "24 rows, allowed a multiple of --sequence-tokens 5" in refusal(
        "flame-moe", actives, **OPTIONS | {"sequence_tokens": 5}
    )
    again = written(tmp_path / "actives" / "iter_200" / "layer_02.parquet", layer_table(rng))
    assert "layer 2 was in" in refusal("flame-moe", actives, again, **OPTIONS)
    other = written(tmp_path / "actives" / "iter_200" / "layer_04.parquet", layer_table(rng))
    assert "layers of iter_100 and iter_200, allowed: one iteration's" in refusal(
        "flame-moe", actives, other, **OPTIONS
    )
    assert "48 tokens in the samples, allowed 24" in refusal("flame-moe", actives, samples, samples, **OPTIONS)
    written(samples, {"token_id": pa.array([-1] * T)})
    assert "token_id has -1..-1, allowed 0.." in refusal("flame-moe", actives, samples, **OPTIONS)
    written(samples, {"token_id": pa.array(["a"] * T)})
    assert "column token_id holds string" in refusal("flame-moe", actives, samples, **OPTIONS)
    assert "no selections" in refusal("flame-moe", samples, **OPTIONS)
    named = written(tmp_path / "x" / "third.parquet", tables[3])
    assert "an unknown layer, allowed the name layer_NN.parquet" in refusal("flame-moe", named, **OPTIONS)
    written(actives / "layer_03.parquet", tables[2])
    assert "layers 2 and 3 hold the same experts in all 24 rows" in refusal("flame-moe", actives, **OPTIONS)


def test_what_is_no_parquet_is_refused(folder, tmp_path):
    actives, _ = folder
    (tmp_path / "empty").mkdir()
    assert "a folder without .parquet files" in refusal("flame-moe", tmp_path / "empty", **OPTIONS)
    assert "no such file" in refusal("flame-moe", tmp_path / "absent.parquet", **OPTIONS)
    path = actives / "layer_03.parquet"
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-9], whole[:60]):
        path.write_bytes(content)
        assert "not a whole Parquet file" in refusal("flame-moe", actives, **OPTIONS)
    assert "flame-moe: needed: --sequence-tokens" in refusal("flame-moe", actives, score_kind="none")
