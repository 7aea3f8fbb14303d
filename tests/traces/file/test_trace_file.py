"""The trace on disk: what goes in comes out, other programs can read it, and it is there whole or not at all."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_traces import assert_same, random_trace, tiny, tiny_header

from moe_replay.traces.errors import InputError
from moe_replay.traces.file import chunks
from moe_replay.traces.file.trace_file import load_trace, save_trace, write_pieces
from moe_replay.traces.selections import field_digest


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**32),
    tokens=st.integers(1, 60),
    layers=st.integers(1, 4),
    slots=st.integers(1, 6),
    score_kind=st.sampled_from([None, "softmax", "sigmoid", "logit", "selected"]),
    ranked=st.booleans(),
    optional=st.booleans(),
    chunk_rows=st.sampled_from([1, 7, 65536]),
)
def test_what_is_saved_is_loaded(tmp_path_factory, seed, chunk_rows, **shape):
    trace = random_trace(np.random.default_rng(seed), **shape)
    path = tmp_path_factory.mktemp("trace") / "x.trace.parquet"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "CHUNK_ROWS", chunk_rows)
        save_trace(trace, path)
        found = load_trace(path)
        assert_same(found, trace)
        computed = {name: field_digest(name, getattr(trace, name), trace.L) for name in trace.present}
        assert found.field_digests == computed
        assert found.digest == trace.digest


@settings(deadline=None, max_examples=30)
@given(
    domains=st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), min_size=2, max_size=2)
)
def test_any_text_can_be_a_domain(tmp_path_factory, domains):
    trace = tiny(domain_S=np.array(domains))
    path = tmp_path_factory.mktemp("trace") / "x.trace.parquet"
    save_trace(trace, path)
    assert_same(load_trace(path), trace)


def test_the_smallest_and_largest_values_are_kept(tmp_path):
    sequence_T = np.array([2**31 - 1, 0, 1], np.int32)
    arrival_ns_S = np.array([0, 2**63 - 1, 5], np.int64)
    trace = tiny(sequence_T=sequence_T, step_T=sequence_T * 0, arrival_ns_S=arrival_ns_S, label_S=None)
    save_trace(trace, tmp_path / "x.trace.parquet")
    assert_same(load_trace(tmp_path / "x.trace.parquet"), trace)


def test_pandas_reads_it_as_it_is(tmp_path):
    save_trace(tiny(domain_S=np.array(["law", "maths"])), tmp_path / "x.trace.parquet")
    table = pd.read_parquet(tmp_path / "x.trace.parquet")
    columns = "row layer sequence position step phase label domain expert_0 expert_1 score_0 score_1"
    assert " ".join(table.columns) == columns
    assert table.iloc[3].tolist() == [1, 1, 7, 1, 0, 0, 70, "maths", 3, -1, 0.75, 0.0]
    assert table.row.tolist() == [0, 0, 1, 1, 2, 2]
    assert table.layer.tolist() == [0, 1] * 3
    assert table.groupby("layer").expert_0.apply(list).tolist() == [[0, 1, 3], [2, 3, 0]]
    assert {str(dtype) for dtype in table.dtypes[["sequence", "phase", "expert_0", "score_0"]]} == {
        "int32", "int8", "int16", "float32",
    }  # fmt: skip


def test_the_header_can_be_read_by_eye(tmp_path):
    save_trace(tiny(), tmp_path / "x.trace.parquet")
    header = json.loads(pq.read_metadata(tmp_path / "x.trace.parquet").metadata[b"moe-replay"])
    assert (header["kind"], header["tokens"], header["slots"], header["schema"]) == ("trace", 3, 2, 1)
    assert header["model"]["layer_ids"] == [1, 3]
    assert set(header["digests"]) == set(tiny().present)


def test_equal_traces_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        save_trace(random_trace(np.random.default_rng(3)), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.trace.parquet"
    save_trace(tiny(), path)
    with pytest.raises(InputError, match="differ in header"):
        write_pieces([tiny(), tiny(tiny_header(device="other"))], path)
    with pytest.raises(InputError, match="label is both 70 and 71"):
        write_pieces([tiny().rows(0, 1), replace(tiny(), label_S=np.array([50, 71], np.int32)).rows(1, 2)], path)
    assert [each.name for each in tmp_path.iterdir()] == ["x.trace.parquet"]
    assert_same(load_trace(path), tiny())


def test_a_folder_of_parts_is_one_trace(tmp_path, rng):
    trace = random_trace(rng)
    folder = tmp_path / "x.trace.parts"
    for number, (start, stop) in enumerate([(0, 13), (13, 14), (14, 40)]):
        save_trace(trace.rows(start, stop), folder / f"part-{number:06d}.parquet")
    (folder / ".part-000003.parquet.77.tmp").write_bytes(b"half a part")
    found = load_trace(folder)
    assert_same(found, trace)
    assert found.digest == trace.digest


def test_a_folder_must_hold_parts_of_one_recording(tmp_path):
    folder = tmp_path / "x.trace.parts"
    folder.mkdir()
    with pytest.raises(InputError, match=r"x.trace.parts: a folder without finished parts of a recording"):
        load_trace(folder)
    save_trace(tiny().rows(0, 2), folder / "part-000000.parquet")
    save_trace(tiny(tiny_header(device="other")).rows(2, 3), folder / "part-000001.parquet")
    with pytest.raises(InputError, match=r"part-000001.parquet: not of the same recording as part-000000.parquet"):
        load_trace(folder)
    (folder / "part-000000.parquet").unlink()
    with pytest.raises(InputError, match=r"part-000000.parquet is missing, found part-000001.parquet"):
        load_trace(folder)


def test_an_unfinished_recording_is_pointed_out(tmp_path):
    save_trace(tiny(), tmp_path / "x.trace.parts" / "part-000000.parquet")
    with pytest.raises(InputError, match=r"no such file; the recording has not ended, see x.trace.parts"):
        load_trace(tmp_path / "x.trace.parquet")
