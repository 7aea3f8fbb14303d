"""Run records and cost tables: what is saved is loaded, what was changed or does not belong together is refused."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from damage import refused_of_damaged

from moe_replay.traces.command_line.files import replacing
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.parquet import HEADER_KEY, read_table, write_table
from moe_replay.traces.runs.cost_table import CostTable, load_costs
from moe_replay.traces.runs.run_records import BATCH_COLUMNS, PASS_COLUMNS, RunRecords, load_run, members_crc, run_names

HEADER = {"source": "simulated", "config": {"queue_size": 2}, "device": "none", "provenance": {}}


def run_of(passes=5, batches=7, seed=0, **header):
    """A run of random records whose times never run backwards."""
    rng = np.random.default_rng(seed)

    def table(columns, rows, times):
        filled = {name: rng.integers(0, 2, rows).astype(dtype) for name, dtype in columns.items()}
        moments = np.sort(rng.integers(0, 10**9, (rows, 3)), axis=1)
        return filled | {name: moments[:, at].copy() for at, name in enumerate(times)}

    return RunRecords(
        table(PASS_COLUMNS, passes, ("arrival_ns", "start_ns", "end_ns")),
        table(BATCH_COLUMNS, batches, ("ready_ns", "start_ns", "end_ns")),
        HEADER | header,
    )


def assert_same_columns(found, expected):
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(("passes", "batches"), [(5, 7), (1, 0), (0, 0), (3000, 2000)])
def test_a_run_is_loaded_as_it_was_saved(tmp_path, passes, batches):
    run = run_of(passes, batches)
    run.save(tmp_path / "new", "a")
    found = load_run(tmp_path / "new", "a")
    assert found.header == run.header
    assert_same_columns(found.passes, run.passes)
    assert_same_columns(found.batches, run.batches)


def test_only_complete_runs_are_listed(tmp_path):
    for name in ("b", "a", "half"):
        run_of().save(tmp_path, name)
    (tmp_path / "half.passes.parquet").unlink()
    assert run_names(tmp_path) == ["a", "b"]
    with pytest.raises(InputError, match=r"half\.passes\.parquet: no such file"):
        load_run(tmp_path, "half")
    with pytest.raises(InputError, match="no such folder of run records"):
        run_names(tmp_path / "absent")


def test_passes_and_batches_must_belong_together(tmp_path):
    run_of().save(tmp_path, "a")
    run_of(config={"queue_size": 3}).save(tmp_path, "b")
    run_of(seed=1).save(tmp_path, "c")
    for name, says in (("b", "different configurations"), ("c", "different executions")):
        (tmp_path / f"{name}.batches.parquet").write_bytes((tmp_path / "a.batches.parquet").read_bytes())
        with pytest.raises(InputError, match=f"{name}: passes and batches come from {says}"):
            load_run(tmp_path, name)


@pytest.mark.parametrize(
    ("table", "name", "change", "says"),
    [
        ("passes", "end_ns", lambda values: values * 0 - 1, r"passes: row 0: times run backwards \(5 such rows\)"),
        ("batches", "start_ns", lambda values: values * 0 - 1, r"batches: row 0: times run backwards \(7 such rows\)"),
        ("passes", "tokens", lambda values: values.astype(np.int64), r"passes: column tokens is int64\(5,\)"),
        ("batches", "size", lambda values: values[1:], r"batches: column size is int32\(6,\)"),
    ],
)
def test_impossible_records_are_refused(table, name, change, says):
    run = run_of()
    columns = getattr(run, table)
    with pytest.raises(InputError, match=says):
        replace(run, **{table: columns | {name: change(columns[name])}})


def test_a_table_of_another_kind_is_refused(tmp_path):
    run_of().save(tmp_path, "a")
    with pytest.raises(InputError, match=r"a\.passes\.parquet: holds 'passes', expected 'costs'"):
        load_costs(tmp_path / "a.passes.parquet")


def test_damaged_tables_load_as_they_were_or_not_at_all(tmp_path):
    columns = {"time_ns": np.arange(50) ** 3, "size": np.arange(50, dtype=np.int32) % 7, "hit": np.arange(50) % 3 == 0}
    write_table(tmp_path / "x", columns, {"device": "none"}, "passes")

    def load(path):
        found, header = read_table(path, "passes")
        assert_same_columns(found, columns)
        assert header["device"] == "none"

    refused = refused_of_damaged(tmp_path / "x", load)
    assert len(refused) > 150  # the rest fell on what Parquet says beside the data


def test_a_changed_table_with_good_checksums_is_refused(tmp_path):
    write_table(tmp_path / "x", {"time_ns": np.arange(50)}, {}, "passes")
    table = pq.read_table(tmp_path / "x")
    changed = pa.table({"time_ns": np.append(np.arange(49), 77)}).replace_schema_metadata(table.schema.metadata)
    pq.write_table(changed, tmp_path / "y", write_page_checksum=True)
    with pytest.raises(InputError, match="column time_ns does not match its digest: the file was changed"):
        read_table(tmp_path / "y", "passes")
    pq.write_table(table.replace_schema_metadata({HEADER_KEY: b"[]"}), tmp_path / "y")
    with pytest.raises(InputError, match="the header does not match its own digest"):
        read_table(tmp_path / "y", "passes")
    pq.write_table(table.replace_schema_metadata({}), tmp_path / "y")
    with pytest.raises(InputError, match="it has no moe-replay header"):
        read_table(tmp_path / "y", "passes")


def costs_of(rows):
    """A cost table of (layer, block, tokens, repetition, service_ns)."""
    types = {"layer": np.int16, "block": np.int16, "tokens": np.int32, "repetition": np.int32, "service_ns": np.int64}
    return CostTable(
        {
            name: np.array(values, dtype)
            for (name, dtype), values in zip(types.items(), zip(*rows, strict=True), strict=True)
        },
        {"device": "none", "model": "tiny", "provenance": {}},
    )


def test_costs_by_hand(tmp_path):
    rows = [
        (0, 0, 1, 0, 10),
        (0, 0, 1, 1, 30),
        (0, 0, 3, 0, 60),
        (0, 1, 1, 0, 100),
        (0, 2, 1, 0, 300),
        (0, 2, 3, 0, 400),
    ]
    costs_of(rows).save(tmp_path / "costs.parquet")
    costs = load_costs(tmp_path / "costs.parquet")
    assert costs.dense_layers == [0]
    assert {tokens: times.tolist() for tokens, times in costs.repetitions(0, 0).items()} == {1: [10, 30], 3: [60]}
    assert costs.service_ns(0, 0, 2) == 40  # halfway between the means 20 and 60
    assert costs.service_ns(0, 2, 2) == 300  # experts are pooled: halfway between 200 and 400
    assert costs.capacity_per_s(k=2, layers=1, batch=1) == pytest.approx(1e9 / (2 * 200 + 20))
    with pytest.raises(InputError, match=r"a batch of 4 tokens in an expert was not measured; allowed: 1\.\.3"):
        costs.service_ns(0, 1, 4)
    with pytest.raises(InputError, match="nothing was measured for layer 1, block 0"):
        costs.repetitions(1, 0)


@pytest.mark.parametrize("row", [(0, 0, 0, 0, 5), (0, 0, 1, 0, -5)])
def test_impossible_costs_are_refused(row):
    with pytest.raises(InputError, match="tokens >= 1 and service_ns >= 0"):
        costs_of([row])


def test_members_are_told_apart_by_order():
    assert members_crc([1, 2]) == members_crc(np.array([1, 2]))
    assert members_crc([1, 2]) != members_crc([2, 1])


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "x"
    with replacing(path) as temporary:
        temporary.write_text("old")
        assert not path.exists()

    def fail():
        with replacing(path) as temporary:
            temporary.write_text("new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    assert [each.name for each in path.parent.iterdir()] == ["x"]
