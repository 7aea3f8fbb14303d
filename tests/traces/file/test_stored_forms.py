"""Columns in the forms of files: what comes back is what was given, whatever the times, and files get smaller."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from damage import refused_of_damaged

from moe_replay.traces.file.parquet import read_table, write_table
from moe_replay.traces.file.stored_forms import absolute, relative, reordered, restored
from moe_replay.traces.runs.run_records import BATCH_COLUMNS, PASS_COLUMNS, TRANSFER_COLUMNS, RunRecords, load_run

ROOT = Path(__file__).resolve().parents[3]


def batches_of(devices, rows, seed=0, asked="ready_ns"):
    """Batches of so many devices in the order of their starts: back to back, ready when an earlier one has ended."""
    rng = np.random.default_rng(seed)
    free, ends, table = [0] * devices, [0], []
    for _ in range(rows):
        device = int(np.argmin(free))
        start = free[device] + int(rng.integers(2)) * int(rng.integers(50))
        known = [end for end in ends if end <= start]
        ready = known[rng.integers(len(known))] if rng.random() < 0.8 else int(rng.integers(start + 1))
        free[device] = start + int(rng.integers(3)) * 1000 + int(rng.integers(9))
        ends.append(free[device])
        table.append((ready, start, free[device]))
    table.sort(key=lambda row: row[1])
    times = np.array(table, np.int64).reshape(-1, 3)
    return {"size": np.arange(len(times)), asked: times[:, 0], "start_ns": times[:, 1], "end_ns": times[:, 2]}


def assert_same(found, columns):
    assert list(found) == list(columns)
    for name, values in columns.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("asked", ["ready_ns", "asked_ns"])
@pytest.mark.parametrize(("devices", "rows"), [(1, 0), (1, 1), (1, 400), (3, 400), (50, 60)])
def test_times_come_back(devices, rows, asked):
    columns = batches_of(devices, rows, devices, asked)
    stored = relative(columns)
    assert not set(stored) & {"start_ns", "end_ns", asked}
    assert_same(absolute(stored), columns)


@pytest.mark.parametrize("top", [5, 2**40, 2**62])
def test_times_without_any_order_come_back(top):
    times = np.sort(np.random.default_rng(3).integers(-top, top, (300, 3)), axis=1)
    columns = dict(zip(("ready_ns", "start_ns", "end_ns"), times.T, strict=True))
    assert_same(absolute(relative(columns)), columns)


def test_times_of_one_batch_by_hand():
    columns = {"ready_ns": [0, 9, 12], "start_ns": [3, 9, 20], "end_ns": [9, 20, 21]}
    columns = {name: np.array(values) for name, values in columns.items()}
    stored = {name: values.tolist() for name, values in relative(columns).items()}
    assert stored == {"ready_after": [-3, 1, -8], "idle_ns": [3, 0, 0], "lasting_ns": [6, 11, 1]}


def test_what_is_asked_for_after_its_start_is_not_stored():
    times = {"ready_ns": np.array([4]), "start_ns": np.array([3]), "end_ns": np.array([9])}
    with pytest.raises(ValueError, match="times run backwards"):
        relative(times)


@pytest.mark.parametrize("top", [4, 60000, 70000, 2**31 - 1])
@pytest.mark.parametrize("bottom", [0, -3])
def test_a_column_in_the_order_of_another_comes_back(top, bottom):
    rng = np.random.default_rng(4)
    columns = {"sequence": rng.integers(bottom, top, 500).astype(np.int32), "right": rng.random(500) < 0.5}
    stored = reordered(columns, {"right": "sequence"})
    assert_same(restored(stored, {"right": "sequence"}), columns)


def test_steps_stand_in_the_order_of_sequences():
    sequence = np.random.default_rng(5).permutation(1000)
    stored = reordered({"sequence": sequence, "step": sequence // 256}, {"step": "sequence"})
    assert list(stored) == ["sequence", "step by sequence"]
    assert stored["step by sequence"].tolist() == (np.arange(1000) // 256).tolist()


FORMS = {"plain": {}, "times": {"relative_times": True}, "orders": {"orders": {"size": "end_ns"}}}


@pytest.mark.parametrize("form", [*FORMS, "both"])
def test_damaged_files_load_as_they_were_or_not_at_all(tmp_path, form):
    columns = batches_of(2, 60)
    kinds = FORMS["times"] | FORMS["orders"] if form == "both" else FORMS[form]
    write_table(tmp_path / "x", columns, {"device": "none"}, "batches", **kinds)
    assert_same(read_table(tmp_path / "x", "batches")[0], columns)
    assert set(read_table(tmp_path / "x", "batches")[1]) == {"device", "kind", "column_digests", "header_digest"}

    def load(path):
        found, header = read_table(path, "batches")
        assert_same(found, columns)
        assert header["device"] == "none"

    refused = refused_of_damaged(tmp_path / "x", load)
    assert len(refused) > 100


def test_batches_back_to_back_take_half_the_room(tmp_path):
    rng, rows = np.random.default_rng(6), np.arange(5000)
    end_ns = np.cumsum(rng.integers(200_000, 900_000, 5000))
    start_ns = np.append(0, end_ns[:-1])
    ready_ns = start_ns[np.maximum(rows - rng.integers(0, 9, 5000), 0)]
    columns = {"ready_ns": ready_ns, "start_ns": start_ns, "end_ns": end_ns}
    for name in ("plain", "times"):
        write_table(tmp_path / name, columns, {}, "batches", **FORMS[name])
    assert (tmp_path / "times").stat().st_size < 0.5 * (tmp_path / "plain").stat().st_size


def records():
    """Record tables of a run with expert memory."""
    times, rows = batches_of(1, 300), np.arange(300)
    rng = np.random.default_rng(7)
    columns = {
        name: {column: (rows % 2).astype(dtype) for column, dtype in allowed.items()}
        for name, allowed in (("passes", PASS_COLUMNS), ("batches", BATCH_COLUMNS), ("transfers", TRANSFER_COLUMNS))
    }
    for name, asked in (("passes", "arrival_ns"), ("batches", "ready_ns"), ("transfers", "asked_ns")):
        columns[name] |= {"start_ns": times["start_ns"], "end_ns": times["end_ns"], asked: times["ready_ns"]}
    columns["passes"]["sequence"] = rng.permutation(300).astype(np.int32)
    columns["passes"]["step"] = columns["passes"]["sequence"] // 256
    header = {"source": "executed", "config": {"memory": {"slots": 2}}, "device": "none", "provenance": {}}
    return RunRecords(columns["passes"], columns["batches"], header, columns["transfers"])


def test_runs_are_written_compactly_and_plain_again(tmp_path):
    run = records()
    run.save(tmp_path / "plain", "a")
    for source, target, words in (("plain", "compact", []), ("compact", "again", ["--plain"])):
        compacted = [sys.executable, "-m", "traces", "compact", str(tmp_path / source), *words]
        done = subprocess.run([*compacted, "--out", str(tmp_path / target)], cwd=ROOT, capture_output=True, text=True)
        assert done.stdout == f"{tmp_path / target}: 1 run, {'plain' if words else 'compact'}\n", done.stderr
    for name in ("a.passes.parquet", "a.batches.parquet", "a.transfers.parquet"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes()
        shared = set(pq.read_table(tmp_path / "compact" / name).column_names) & {"start_ns", "end_ns", "step"}
        assert shared == ({"start_ns", "end_ns"} if "passes" in name else set())  # no name with another meaning
    found = load_run(tmp_path / "compact", "a")
    assert found.header == run.header
    for name in ("passes", "batches", "transfers"):
        assert_same(getattr(found, name), getattr(run, name))


def test_plain_records_are_read_by_other_programs_as_they_are(tmp_path):
    run = records()
    run.save(tmp_path, "a")
    for name in ("passes", "batches", "transfers"):
        table = pq.read_table(tmp_path / f"a.{name}.parquet")
        assert_same({column: table[column].to_numpy() for column in table.column_names}, getattr(run, name))


def test_a_folder_without_runs_is_refused(tmp_path):
    words = [sys.executable, "-m", "traces", "compact", str(tmp_path), "--out", str(tmp_path / "x")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "holds no complete run" in done.stderr
