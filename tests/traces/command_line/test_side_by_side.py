"""Commands side by side: each says its lines whole and in order, a failure is its own, none is left behind."""

import os
import subprocess
import sys
import time

import pytest

from moe_replay.traces.command_line.child_process import run_until
from moe_replay.traces.command_line.side_by_side import STOPPED, Beside, side_by_side


def program(code):
    return (sys.executable, "-S", "-c", code)


def test_what_each_says_is_whole_and_in_order():
    codes = [f"import time; print({n}); time.sleep({0.2 - 0.05 * n}); print({n})" for n in range(4)]
    assert list(side_by_side([program(code) for code in codes], 2)) == [(0, [str(n)] * 2) for n in range(4)]


def test_one_that_fails_or_cannot_be_started_leaves_the_others_their_chance():
    found = list(side_by_side([program("raise SystemExit(3)"), ("/no/such/program",), program("print(1)")], 3))
    assert [status for status, _ in found] == [3, 127, 0]
    assert found[2][1] == ["1"]


def test_one_after_another_none_behind_one_that_failed():
    with Beside() as beside:
        found = beside.run([program("print(1)"), program("print(2); raise SystemExit(4)"), program("print(3)")])
    assert found == (4, ["1", "2"])


def test_an_exception_ends_what_runs_and_begins_nothing_more(tmp_path):
    began, note = time.monotonic(), tmp_path / "pid"
    long = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt), Beside() as beside:  # noqa: PT012
        running = beside.pool.submit(beside.run, [program(long)])
        later = beside.pool.submit(beside.run, [program("print(1)")])
        while not (note.exists() and note.read_text()):
            time.sleep(0.01)
        raise KeyboardInterrupt
    assert time.monotonic() - began < 30
    assert running.result()[0] < 0
    assert later.result() == (STOPPED, [])
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_what_begins_while_others_are_stopped_ends_at_once(monkeypatch):
    """The moment between the question whether to begin and the process that has begun."""
    began = time.monotonic()
    with Beside() as beside:
        started = subprocess.Popen

        def stopped_meanwhile(*words, **options):
            beside.stop()
            return started(*words, **options)

        monkeypatch.setattr(subprocess, "Popen", stopped_meanwhile)
        status, _ = beside.run([program("import time; time.sleep(60)")])
    assert status < 0
    assert time.monotonic() - began < 30


def test_a_command_may_take_its_time():
    said = []
    assert run_until(program("print('done')"), None, said.append) == 0
    assert said == ["done"]
