"""Load traces: what is saved is loaded, what cannot be is refused, and the numbers that `describe` prints."""

import io
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from moe_replay.traces.describe_loads import counts_text, load_description, max_over_mean_SL
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import read_table, write_table
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace, holds_loads, read_loads


def tiny_loads(**changes):
    """Two iterations, one rank, one microbatch, two layers of three experts: 6 selections everywhere."""
    model = ModelInfo(name="tiny", experts=3, used_k=2, layer_ids=(1, 4))
    counts = np.array([[[[[4, 2, 0], [2, 2, 2]]]], [[[[6, 0, 0], [1, 2, 3]]]]])
    fields = {
        "model": model,
        "data": {"name": "by hand", "digest": None, "note": None},
        "load_SRMLE": counts,
        "iteration_S": np.array([10, 20]),
        "rank_R": np.array([0], np.int32),
        "notes": {"a": 1},
    }
    return LoadTrace(**{**fields, **changes})


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (3, 2, 4, 5, 7), (1, 9, 1, 2, 3)])
def test_what_is_saved_is_loaded(tmp_path, rng, shape):
    iterations, ranks, _, layers, experts = shape
    loads = tiny_loads(
        model=ModelInfo(name="x", experts=experts, used_k=1, layer_ids=tuple(range(1, 2 * layers, 2))),
        load_SRMLE=rng.integers(0, 2**40, shape),
        iteration_S=np.sort(rng.choice(10**9, iterations, replace=False)),
        rank_R=np.arange(3, 3 + ranks, dtype=np.int32),
    )
    loads.save(tmp_path / "x")
    assert holds_loads(tmp_path / "x")
    found = read_loads(tmp_path / "x")
    assert (found.load_SRMLE == loads.load_SRMLE).all()
    assert (found.iteration_S == loads.iteration_S).all()
    assert (found.rank_R == loads.rank_R).all()
    assert (found.model, found.data, found.notes) == (loads.model, loads.data, loads.notes)
    assert found.digest == loads.digest


def test_other_programs_can_read_it(tmp_path):
    tiny_loads().save(tmp_path / "x")
    row = pq.read_table(tmp_path / "x").to_pylist()[8]
    assert row == {"iteration": 20, "rank": 0, "microbatch": 0, "layer": 0, "expert": 2, "selections": 0}


def test_numbers_by_hand():
    loads = tiny_loads()
    assert loads.load_LE.tolist() == [[10, 2, 0], [3, 4, 5]]
    assert max_over_mean_SL(loads).tolist() == [[2, 1], [3, 1.5]]
    assert counts_text(loads) == "counts of 2 iterations x 1 ranks x 1 microbatches x 2 layers x 3 experts"


def test_the_digest_counts_numbers_and_ids_only():
    loads = tiny_loads()
    assert replace(loads, notes={}, provenance={"seed": 1}).digest == loads.digest
    assert replace(loads, iteration_S=np.array([10, 21])).digest != loads.digest


def test_arrays_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        tiny_loads().load_SRMLE[0] = 1


def test_description():
    console = Console(file=io.StringIO(), width=80)
    empty = tiny_loads(load_SRMLE=np.zeros((2, 1, 1, 2, 3), np.int64))
    for loads in (tiny_loads(), empty):
        console.print(load_description(loads, "x"))
    text = console.file.getvalue()
    assert "24, 25.0% of the counts are zero" in text
    assert "counts only: no tokens, no order" in text


def test_empty_iterations_are_told_and_have_no_imbalance():
    """Of five iterations the second and the last are empty, as those of an idle engine are."""
    counts = np.zeros((5, 1, 1, 2, 3), np.int64)
    counts[[0, 2, 3]] = tiny_loads().load_SRMLE[[0, 1, 0]]
    loads = tiny_loads(load_SRMLE=counts, iteration_S=np.array([1, 2, 4, 8, 9]))
    assert loads.used_S.tolist() == [True, False, True, True, False]
    assert counts_text(loads).endswith("x 3 experts; 2 of the iterations are empty: no selections")
    console = Console(file=io.StringIO(), width=100)
    console.print(load_description(loads, "x"))
    table = console.file.getvalue().split("Imbalance")[1].splitlines()
    assert [line.split()[0] for line in table if line.strip()[:1].isdigit()] == ["1", "4", "8"]
    assert "nan" not in console.file.getvalue()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"load_SRMLE": np.zeros((2, 1, 1, 2, 3))}, "load_SRMLE: allowed an array of int64 with 5 dimensions"),
        ({"load_SRMLE": np.zeros((2, 1, 1, 2, 4), np.int64)}, "shape (2, 1, 1, 2, 4), allowed (2, 1, 1, 2, 3)"),
        ({"load_SRMLE": np.zeros((2, 1, 0, 2, 3), np.int64)}, "none of them 0"),
        (
            {"load_SRMLE": np.arange(-3, 9).reshape(2, 1, 1, 2, 3)},
            "iteration 10, rank 0, microbatch 0, layer 0, expert 0: selections are -3, allowed >= 0 (3 such counts)",
        ),
        ({"iteration_S": np.array([20, 10])}, "iteration_S is [20, 10], allowed ascending numbers >= 0"),
        ({"rank_R": np.array([-1], np.int32)}, "rank_R is [-1], allowed ascending numbers >= 0"),
        ({"data": {"name": "x"}}, "header: data: key 'digest' is missing"),
        ({"notes": {"a": float("nan")}}, "header: notes cannot be written as JSON"),
    ],
)
def test_what_cannot_be_is_refused(change, message):
    with pytest.raises(InputError) as refused:
        tiny_loads(**change)
    assert message in str(refused.value)


def changed_table(path, change):
    """Write a table again with its digests made right: only sense can tell."""
    tiny_loads().save(path)
    columns, header = read_table(path, "loads")
    columns = {name: values.copy() for name, values in columns.items()}
    change(columns, header)
    kept = {key: value for key, value in header.items() if key not in ("column_digests", "kind", "header_digest")}
    write_table(path, columns, kept, "loads")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c, h: c["layer"].__setitem__(3, 0), "column layer: rows are not a full grid"),
        (lambda c, h: c.update({name: values[:-1] for name, values in c.items()}), "are not a full grid"),
        (lambda c, h: c.pop("rank"), "columns are iteration, microbatch"),
        (lambda c, h: c.update(selections=c["selections"] / 1), "as whole numbers"),
        (lambda c, h: c["selections"].__setitem__(0, -4), "selections are -4"),
        (lambda c, h: h.pop("notes"), "key 'notes' is missing"),
        (lambda c, h: h["model"].update(experts=9), "shape (2, 1, 1, 2, 3), allowed (2, 1, 1, 2, 9)"),
        (lambda c, h: h["model"].pop("name"), "model: key 'name' is missing"),
        (lambda c, h: h.update(schema=2), "schema is 2, allowed 1"),
    ],
)
def test_a_changed_file_is_refused(tmp_path, change, message):
    path = tmp_path / "bad"
    changed_table(path, change)
    with pytest.raises(InputError) as refused:
        read_loads(path)
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)


def test_damage_is_refused(tmp_path):
    path = tmp_path / "x"
    assert not holds_loads(path)
    tiny_loads().save(path)
    whole = path.read_bytes()
    outcomes = set()
    for at in range(8, len(whole), 97):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 64]) + whole[at + 1 :])
        try:
            outcomes.add(read_loads(path).digest)
        except InputError as error:
            outcomes.add(str(error)[: len(str(path))])
    assert outcomes <= {tiny_loads().digest, str(path)}
    path.write_bytes(json.dumps({}).encode())
    assert not holds_loads(path)
