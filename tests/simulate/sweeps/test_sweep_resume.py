"""A sweep that is cut off, by whatever, goes on where it stopped and gives the same bytes; others' outputs are safe."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sweep_worlds import PROVENANCE, ROOT, closed_loops, start, swept, toy_study, toy_trace

from moe_replay.simulate.sweeps import store, sweep
from moe_replay.simulate.sweeps.store import Store, opened_store, read_part
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.runs.sweep_table import load_sweep


@pytest.fixture
def forked(tmp_path):
    """Return a function (table, operation at which to die) -> exit status of the sweep."""
    script = Path(__file__).with_name("sweep_process.py")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "simulate")])
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as program:  # fmt: skip

        def carry_out(name, kill_at=None):
            program.stdin.write(json.dumps([str(tmp_path), name, kill_at]) + "\n")
            program.stdin.flush()
            return int(program.stdout.readline())

        yield carry_out
        program.stdin.close()


def on_disk(out):
    """How many points can be read back: of the whole table, or of the parts."""
    if out.exists():
        return len(load_sweep(out)[0])
    return sum(len(json.loads(path.read_text())["results"]) for path in out.with_suffix(".parts").glob("part-*.json"))


def test_kill_minus_9_at_any_file_operation_loses_nothing_and_changes_no_byte(forked, tmp_path):
    toy_study(tmp_path, world={"tokens": 60})
    assert forked("whole.parquet") == 0
    whole, out = (tmp_path / "whole.parquet").read_bytes(), tmp_path / "cut.parquet"
    for operation in itertools.count():
        (tmp_path / "acknowledged").write_text("0")
        status = forked("cut.parquet", operation)
        assert on_disk(out) >= int((tmp_path / "acknowledged").read_text())
        if status == 0:
            break
        assert status == -signal.SIGKILL
        if operation % 3 == 0:  # cut off twice: at the next operation, and somewhere in what is left
            forked("cut.parquet", operation % 7)
        assert forked("cut.parquet") == 0
        assert out.read_bytes() == whole
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {"toy.trace.parquet", "whole.parquet", "cut.parquet", "acknowledged"}
        out.unlink()
    assert operation > 20
    assert out.read_bytes() == whole


def children(pid):
    """The processes that a process started, with their command lines."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return {int(child): Path(f"/proc/{child}/cmdline").read_text() for child in listed}


def wait_for_a_part(running, folder):
    """Wait until a running sweep has written one more part, or has ended."""
    before, deadline = len(list(folder.glob("part-*"))), time.monotonic() + 120
    while len(list(folder.glob("part-*"))) <= before and running.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the workers under /proc")
def test_a_sweep_killed_in_every_way_ends_with_the_same_bytes(tmp_path):
    for name in ("cut", "whole"):
        save_trace(toy_trace(tokens=10_000), tmp_path / name / "toy.trace.parquet")
    axes = ("--axis", "queue_size=4,6,8,12,16,24,32", "--axis", "in_flight=64,128,256", "--replications", 2)
    words = ("sweep", "toy.trace.parquet", "--affine", "2000,100", *axes, "--engine", "simpy", "--out", "sweep.parquet")
    parts = tmp_path / "cut" / "sweep.parts"

    killed = start(tmp_path / "cut", *words, "--jobs", 1)
    wait_for_a_part(killed, parts)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL

    orphaned = start(tmp_path / "cut", *words, "--jobs", 2)
    wait_for_a_part(orphaned, parts)
    workers = [pid for pid, command in children(orphaned.pid).items() if "LokyProcess" in command]
    os.kill(workers[0], signal.SIGKILL)
    _, said = orphaned.communicate()
    kept = on_disk(tmp_path / "cut" / "sweep.parquet")
    line = "points are in sweep.parts, the same command continues there"
    assert orphaned.returncode == 2, said
    assert said.splitlines()[-1] == (
        f"simulate: a worker process died in the middle of a point (killed, or out of memory); {kept} of 42 {line}"
    )
    assert "Traceback" not in said

    interrupted = start(tmp_path / "cut", *words, "--jobs", 2)
    wait_for_a_part(interrupted, parts)
    os.killpg(interrupted.pid, signal.SIGINT)
    _, said = interrupted.communicate()
    assert interrupted.returncode == 130, said
    assert f"interrupted; {on_disk(tmp_path / 'cut' / 'sweep.parquet')} of 42 {line}" in said
    assert "Traceback" not in said
    assert kept < on_disk(tmp_path / "cut" / "sweep.parquet") < 42

    for name, jobs in (("cut", 2), ("whole", 1)):
        _, said = (running := start(tmp_path / name, *words, "--jobs", jobs)).communicate()
        assert running.returncode == 0, said
        assert ("of 42 points are there" in said) == (name == "cut")
        assert {path.name for path in (tmp_path / name).iterdir()} == {"toy.trace.parquet", "sweep.parquet"}
    assert (tmp_path / "cut" / "sweep.parquet").read_bytes() == (tmp_path / "whole" / "sweep.parquet").read_bytes()


class CutOffError(Exception):
    """Ends a sweep in the middle."""


@pytest.fixture
def cut_off(tmp_path, monkeypatch):
    """A sweep of which five of twelve points are in parts; return its study and table."""
    study, out = toy_study(tmp_path), tmp_path / "sweep.parquet"
    whole = sweep.results

    def first_five(*words):
        for number, result in enumerate(whole(*words)):
            if number == 5:
                raise CutOffError
            yield result

    monkeypatch.setattr(sweep, "results", first_five)
    with pytest.raises(CutOffError):
        swept(study, closed_loops(), out)
    monkeypatch.setattr(sweep, "results", whole)
    assert on_disk(out) == 5
    return study, out


def counted(monkeypatch):
    """Return the list to which every carried out point adds its place."""
    places, whole = [], sweep.results

    def watched(*words):
        for place, result in whole(*words):
            places.append(place)
            yield place, result

    monkeypatch.setattr(sweep, "results", watched)
    return places


def test_what_is_finished_is_not_done_again(cut_off, monkeypatch, capsys):
    study, out = cut_off
    places = counted(monkeypatch)
    first = swept(study, closed_loops(), out)
    assert len(places) == 7
    assert "5 of 12 points are there" in capsys.readouterr().err
    stamp = out.stat().st_mtime_ns
    assert [point.run for point in swept(study, closed_loops(), out)] == [point.run for point in first]
    assert (len(places), out.stat().st_mtime_ns) == (7, stamp)
    assert "all 12 points are complete already" in capsys.readouterr().err


def test_the_output_of_another_grid_is_refused_and_left_as_it_is(cut_off):
    study, out = cut_off
    before = {path: path.read_bytes() for path in out.with_suffix(".parts").iterdir()}
    other = closed_loops(in_flight=8)
    refusal = r"holds another sweep, grid \w+ of `a test`, this one is grid \w+: runs_digest differ; allowed: the same"
    with pytest.raises(InputError, match=f"sweep.parts: {refusal}"):
        swept(study, other, out)
    assert {path: path.read_bytes() for path in out.with_suffix(".parts").iterdir()} == before
    swept(study, closed_loops(), out)
    whole = out.read_bytes()
    with pytest.raises(InputError, match=f"sweep.parquet: {refusal}"):
        swept(study, other, out)
    with pytest.raises(InputError, match="engine differ"):
        swept(toy_study(out.parent, engine="simpy"), closed_loops(), out)
    assert out.read_bytes() == whole
    assert not out.with_suffix(".parts").exists()


def test_what_is_no_table_of_a_sweep_is_refused(tmp_path):
    study = toy_study(tmp_path)
    (tmp_path / "text.parquet").write_text("no table")
    (tmp_path / "folder.parquet").mkdir()
    for name, message in (
        ("text", "not a whole Parquet file"),
        ("folder", "is a folder"),
        ("toy.trace", "holds 'trace'"),
    ):
        with pytest.raises(InputError, match=message):
            swept(study, closed_loops(), tmp_path / f"{name}.parquet")


def test_a_sweep_begun_with_another_version_is_refused(cut_off):
    study, out = cut_off
    newer = {**PROVENANCE, "source_revision": "another"}
    with pytest.raises(InputError, match="was begun with source_revision none, this is another; allowed: the same"):
        sweep.sweep(study, closed_loops(), out, 1, provenance=newer)
    sweep.sweep(study, closed_loops(), out, 1, provenance={**PROVENANCE, "command": "another"})
    assert load_sweep(out)[1]["provenance"]["command"] == "a test"


def test_a_damaged_part_is_named(cut_off):
    study, out = cut_off
    part = out.with_suffix(".parts") / "part-000000.json"
    text = part.read_text()
    digit = next(i for i in range(len(text) // 2, len(text)) if text[i] in "12345678")
    part.write_text(text[:digit] + str(int(text[digit]) + 1) + text[digit + 1 :])
    with pytest.raises(InputError, match=r"part-000000.json: the part was damaged; allowed: remove it"):
        swept(study, closed_loops(), out)
    part.unlink()
    assert len(swept(study, closed_loops(), out)) == 12


def test_a_damaged_folder_is_no_sweep(cut_off):
    study, out = cut_off
    (out.with_suffix(".parts") / "grid.json").write_text("{")
    with pytest.raises(InputError, match="holds another sweep"):
        swept(study, closed_loops(), out)


def test_two_at_once_are_refused(cut_off):
    study, out = cut_off
    configs = closed_loops()
    grid = sweep.grid_of(study.sealed(configs.values()), configs, PROVENANCE)
    with opened_store(out, grid), pytest.raises(InputError, match="another process is carrying out this sweep"):
        swept(study, configs, out)
    assert len(swept(study, configs, out)) == 12


def test_parts_beside_a_whole_table_are_taken_away(cut_off):
    """As after a crash between the two: the table is whole, so nothing is carried out again."""
    study, out = cut_off
    parts = out.with_suffix(".parts")
    shutil.copytree(parts, out.with_suffix(".kept"))
    swept(study, closed_loops(), out)
    out.with_suffix(".kept").rename(parts)
    whole = out.read_bytes()
    swept(study, closed_loops(), out)
    assert (out.read_bytes(), parts.exists()) == (whole, False)


def test_points_share_part_files_by_the_second(tmp_path, monkeypatch):
    study, out = toy_study(tmp_path), tmp_path / "sweep.parquet"
    clock, parts = [0.0], []
    monkeypatch.setattr(store.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(store.threading.Timer, "start", lambda self: None)
    whole = store.Store.add

    def tick(self, place, result):
        clock[0] += 0.3
        whole(self, place, result)
        parts.append(self.parts)

    monkeypatch.setattr(store.Store, "add", tick)
    swept(study, closed_loops(), out)
    assert parts == [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3]


def test_a_finished_point_does_not_wait_for_the_next(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FLUSH_S", 0.05)
    made = Store(tmp_path, {}, {}, 0)
    made.add(3, {"status": "ok"})
    deadline = time.monotonic() + 30
    while not (tmp_path / "part-000000.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(read_part(tmp_path / "part-000000.json")) == [(3, {"status": "ok"})]
    made.flush()
    assert not (tmp_path / "part-000001.json").exists()


def test_no_part_is_written_when_the_folder_has_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "FLUSH_S", 0.2)
    swept(toy_study(tmp_path), closed_loops(sizes=(64,), seeds=(0, 1)), tmp_path / "sweep.parquet")
    time.sleep(0.4)
    assert {path.name for path in tmp_path.iterdir()} == {"toy.trace.parquet", "sweep.parquet"}


def test_parts_of_another_grid_beside_a_whole_table_are_left(cut_off):
    study, out = cut_off
    parts, other = out.with_suffix(".parts"), out.with_name("other.parquet")
    swept(study, closed_loops(in_flight=8), other)
    other.rename(out)
    before = sorted(parts.iterdir())
    swept(study, closed_loops(in_flight=8), out)
    assert sorted(parts.iterdir()) == before


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system does not list a process's open files")
def test_a_copy_of_the_lock_in_a_forked_process_holds_up_nobody(tmp_path):
    with store.locked(tmp_path / store.LOCK_FILE):
        lock = str(tmp_path / store.LOCK_FILE)
        opened = [int(each.name) for each in Path("/proc/self/fd").iterdir() if str(os.path.realpath(each)) == lock]
        copies = [os.dup(each) for each in opened]  # as a child of fork has them
        assert copies
        with (
            pytest.raises(InputError, match="another process is carrying out this sweep"),
            store.locked(tmp_path / store.LOCK_FILE),
        ):
            pass
    with store.locked(tmp_path / store.LOCK_FILE):
        pass
    for copy in copies:
        os.close(copy)
