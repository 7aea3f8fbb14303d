"""Recordings: what is appended is recorded, and `kill -9` at any moment leaves everything finished readable."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recorder_process import FLUSH, TOKENS, record, whole_trace
from tiny_traces import assert_same, random_trace, tiny, tiny_header

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, parts_folder
from moe_replay.traces.file.trace_writer import TraceWriter, finish_recording

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def start():
    """Start a function of recorder_process in a process of its own: returns its number, and what waits for its end."""
    paths = [str(ROOT), str(ROOT / "tests" / "traces"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, str(Path(__file__).with_name("recorder_process.py"))]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment, **pipes) as server:

        def start_one(function, **arguments):
            return said(json.dumps({"function": function} | arguments)), lambda: said("")

        def said(line):
            print(line, file=server.stdin, flush=True)
            return int(server.stdout.readline())

        yield start_one
        server.stdin.close()


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def test_what_is_appended_is_recorded(tmp_path, rng):
    trace = random_trace(rng, tokens=100)
    path = tmp_path / "x.trace.parquet"
    with TraceWriter(path, trace.header, flush_rows=30) as writer:
        writer.append(trace.rows(0, 1))
        assert (writer.safe_rows, writer.parts) == (0, 0)
        writer.append(trace.rows(1, 70))
        assert (writer.safe_rows, writer.parts) == (60, 2)
        assert_same(load_trace(tmp_path / "x.trace.parts"), trace.rows(0, 60))
        writer.append_arrays(**{name: getattr(trace.rows(70, 100), name) for name in trace.present})
    assert names(tmp_path) == ["x.trace.parquet"]
    assert_same(load_trace(path), trace)


def test_arrays_may_be_used_again_after_they_were_appended(tmp_path):
    trace = tiny()
    arrays = {name: getattr(trace, name).copy() for name in trace.present}
    with TraceWriter(tmp_path / "x.trace.parquet", trace.header) as writer:
        writer.append_arrays(**arrays)
        for values in arrays.values():
            values[...] = 0
    assert_same(load_trace(tmp_path / "x.trace.parquet"), trace)


def test_an_exception_keeps_what_was_appended(tmp_path):
    def record_and_fail():
        with TraceWriter(tmp_path / "x.trace.parquet", tiny().header) as writer:
            writer.append(tiny())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        record_and_fail()
    assert_same(load_trace(tmp_path / "x.trace.parts"), tiny())


def test_an_unfinished_recording_is_not_overwritten_but_resumed(tmp_path):
    path = tmp_path / "x.trace.parquet"
    writer = TraceWriter(path, tiny().header, flush_rows=1)
    writer.append(tiny().rows(0, 2))
    with pytest.raises(InputError, match=r"x\.trace\.parts: holds an unfinished recording, allowed: resume it"):
        TraceWriter(path, tiny().header)
    with pytest.raises(InputError, match="another header than this recording's"):
        TraceWriter(path, tiny_header(device="other"), resume=True)
    with TraceWriter(path, tiny().header, resume=True) as writer:
        assert writer.safe_rows == 2
        writer.append(tiny().rows(2, 3))
    assert_same(load_trace(path), tiny())


def test_nothing_recorded_is_no_trace(tmp_path):
    with (
        pytest.raises(InputError, match="nothing was recorded"),
        TraceWriter(tmp_path / "x.trace.parquet", tiny_header()),
    ):
        pass
    assert names(tmp_path) == []


def chunk(**columns):
    """One token per entry, of one layer's two slots each."""
    arrays = {name: np.array(values, np.int32) for name, values in columns.items()}
    count = len(arrays["sequence_T"])
    return tiny(
        experts_TLK=np.tile(np.array([[0, 1], [2, 3]], np.int16), (count, 1, 1)),
        scores_TLK=np.full((count, 2, 2), 0.25, np.float32),
        phase_T=np.zeros(count, np.int8),
        label_S=None,
        **arrays,
    )


FIRST = chunk(sequence_T=[7, 5, 5], position_T=[0, 0, 1], step_T=[3, 3, 3])


@pytest.mark.parametrize(
    ("sequence_T", "position_T", "step_T", "message"),
    [
        ([6], [0], [2], "step is 2, allowed at least 3 as in the chunk before"),
        ([5], [1], [3], "position is 1, allowed above 1 as in the chunk before"),
        ([7], [1], [3], "sequence 7 had rows in step 3 before, allowed: a pass in one place"),
        ([5, 8, 7], [2, 0, 1], [3, 3, 3], "sequence 7 had rows in step 3 before, allowed: a pass in one place"),
        ([5, 8, 7], [2, 0, 1], [3, 3, 4], None),
        ([7, 5], [0, 0], [4, 4], None),
    ],
)
@pytest.mark.parametrize("resumed", [False, True])
def test_chunks_must_continue_each_other(tmp_path, sequence_T, position_T, step_T, message, resumed):
    path = tmp_path / "x.trace.parquet"
    writer = TraceWriter(path, FIRST.header, flush_rows=1)
    writer.append(FIRST)
    if resumed:
        writer = TraceWriter(path, FIRST.header, flush_rows=1, resume=True)
    following = chunk(sequence_T=sequence_T, position_T=position_T, step_T=step_T)
    if message is None:
        writer.append(following)
        writer.close()
        assert load_trace(path).T == 3 + following.T
    else:
        with pytest.raises(InputError) as error:
            writer.append(following)
        assert str(error.value) == message


def test_chunks_of_another_header_or_with_other_columns_are_refused(tmp_path):
    writer = TraceWriter(tmp_path / "x.trace.parquet", tiny().header)
    writer.append(tiny().rows(0, 2))
    with pytest.raises(InputError, match="the chunk has another header than the recording"):
        writer.append(tiny(tiny_header(device="other")).rows(2, 3))
    writer.append(replace(tiny().rows(2, 3), label_S=None))
    with pytest.raises(InputError, match="differ in header, in columns or in K"):
        writer.close()


def readable(path):
    """What can be read after a recording was killed: the whole file, or its parts; None where no part was finished."""
    folder = parts_folder(path)
    found = [
        load_trace(each) for each in (path, folder) if each.exists() and (each == path or any(each.glob("part-*")))
    ]
    if len(found) == 2:
        assert_same(*found)  # killed between the renaming of the merged file and the removal of its parts
    return found[0] if found else None


def check_after_kill(path):
    """All that was said to be safe can be read, and the recording be taken up and finished; return how far it was."""
    acknowledged = path.with_name("acknowledged")
    safe = int(acknowledged.read_text() or 0) if acknowledged.exists() else 0
    expected, found = whole_trace(), readable(path)
    rows = found.T if found else 0
    assert safe <= rows <= TOKENS
    assert rows % FLUSH == 0 or rows == TOKENS
    if found:
        assert_same(found, expected.rows(0, rows))
    if not path.exists():
        record(path, start=rows, resume=True)
        assert_same(load_trace(path), expected)
        assert names(path.parent) == ["acknowledged", path.name]
    return "finished" if rows == TOKENS else "under way" if rows else "nothing yet"


def test_killed_before_every_single_file_operation(tmp_path, start):
    stages, status = [], -signal.SIGKILL
    while status == -signal.SIGKILL:
        path = tmp_path / str(len(stages)) / "x.trace.parquet"
        path.parent.mkdir()
        _, ended = start("record", path=str(path), kill_at=len(stages))
        status = ended()
        stages.append(check_after_kill(path))
    assert status == 0
    assert stages == sorted(stages, key=["nothing yet", "under way", "finished"].index)
    assert stages.count("nothing yet") >= 2
    assert stages.count("under way") >= 2 * (TOKENS // FLUSH - 1)
    assert stages.count("finished") >= 5  # the merge, its renaming, and the removal of three parts


def test_killed_at_30_random_moments(tmp_path, start, rng):
    def killed_after(seconds, folder):
        folder.mkdir()
        process, ended = start("record", path=str(folder / "x.trace.parquet"))
        begin = time.monotonic()
        if seconds is not None:
            time.sleep(seconds)
            os.kill(process, signal.SIGKILL)
        ended()
        return time.monotonic() - begin

    whole = min(killed_after(None, tmp_path / f"whole{number}") for number in range(3))
    for number, share in enumerate(rng.random(30)):
        killed_after(share * whole, tmp_path / str(number))
        check_after_kill(tmp_path / str(number) / "x.trace.parquet")


def test_merging_takes_no_more_memory_for_a_longer_recording(tmp_path, start):
    peaks = []
    for tokens in (100_000, 400_000):
        path = tmp_path / str(tokens) / "x.trace.parquet"
        assert start("merge_memory", path=str(path), tokens=tokens)[1]() == 0
        peaks.append(json.loads(path.with_name("peaks").read_text()))
        assert len(load_trace(path).sequence_T) == tokens
    (numpy_short, arrow_short), (numpy_long, arrow_long) = peaks
    assert numpy_long < 1.2 * numpy_short
    assert arrow_long < 1.2 * arrow_short
    assert numpy_long < 400_000 * 17  # the bytes of the longer trace's own arrays


def test_a_recording_that_was_cut_off_can_be_finished_as_it_is(tmp_path):
    path = tmp_path / "x.trace.parquet"
    writer = TraceWriter(path, tiny().header, flush_rows=2)
    writer.append(tiny())
    finish_recording(path)
    assert_same(load_trace(path), tiny().rows(0, 2))
    assert names(tmp_path) == ["x.trace.parquet"]
