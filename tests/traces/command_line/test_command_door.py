"""The door of all commands: what the world does to them is one line, and a slip of the program is not hidden."""

import errno
import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from moe_replay.traces.command_line.command import INFINITE, PIPE_CLOSED, new_app, numbers, run, seeds, status_of
from moe_replay.traces.errors import InputError

ROOT = Path(__file__).resolve().parents[3]


def outcome(error, capsys):
    """Return (status, line) of a command that raises."""
    app = new_app("a stub")

    @app.command()
    def one():
        """Fail."""
        raise error

    return status_of(app, "stub", []), capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a/.x.csv.123.tmp/x.csv"),
         "stub: a/x.csv: No space left on device; what was there before is left; allowed: an output on a disk"),
        (PermissionError(errno.EACCES, "Permission denied", "a/.x.csv.123.tmp"), "stub: a/: Permission denied;"),
        (MemoryError("Unable to allocate 8 TiB"), "stub: needs more memory than there is (Unable to allocate 8 TiB)"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "stub: needs more memory than"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), "stub: a file cannot be read (UnicodeDecodeError"),
        (json.JSONDecodeError("bad", "x", 0), "stub: a file cannot be read (JSONDecodeError"),
        (pa.ArrowInvalid("no parquet"), "stub: a file cannot be read (ArrowInvalid: no parquet)"),
        (InputError("bad input"), "stub: bad input"),
    ],
)  # fmt: skip
def test_what_the_world_does_is_one_line(error, said, capsys):
    status, line = outcome(error, capsys)
    assert (status, line.count("\n")) == (2, 1)
    assert line.startswith(said)


@pytest.mark.parametrize("error", [ValueError("a slip"), RuntimeError("a slip"), KeyError("a slip"), IndexError()])
def test_a_slip_of_the_program_is_seen(error, capsys):
    with pytest.raises(type(error)):
        outcome(error, capsys)


def test_a_full_disk_behind_a_librarys_own_words(capsys):
    slip = ValueError("inconsistent stream state")
    slip.__context__ = OSError(errno.ENOSPC, "No space left on device")
    status, line = outcome(slip, capsys)
    assert (status, line.startswith("stub: No space left on device")) == (2, True)


def test_ctrl_c(capsys):
    assert outcome(KeyboardInterrupt(), capsys) == (130, "")


def test_infinity_is_allowed_where_it_means_something():
    app, seen = new_app("a stub"), []

    @app.command()
    def one(bandwidth: float = 1, latency: float = 1, count: int = 1):
        """Take numbers."""
        seen.append((bandwidth, latency, count))

    assert INFINITE == ("--bandwidth",)
    assert status_of(app, "stub", ["--bandwidth", "inf"]) == 0
    for words in (["--latency", "inf"], ["--bandwidth", "nan"], ["--count", "1" + "0" * 30]):
        assert status_of(app, "stub", words) == 2
    assert seen == [(np.inf, 1, 1)]


@pytest.mark.parametrize("text", ["", "1,,2", "x", "1.5", "inf", "-1", "0", "9" * 30])
def test_lists_of_numbers(text):
    with pytest.raises(InputError, match="--x: "):
        numbers(text, "--x")


def test_seeds():
    assert (seeds(0), seeds(2)) == ([None], [0, 1])
    with pytest.raises(InputError, match=r"--replications: 10,000,000,000,000 would take about .* GiB"):
        seeds(10**13)


def process(*words, **how):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.Popen([sys.executable, *words], env=environment, text=True, **how)


def test_a_pipe_that_nobody_reads_ends_a_command_quietly():
    reading, writing = os.pipe()
    os.close(reading)
    with process("-m", "traces", "make", "--help", stdout=writing, stderr=subprocess.PIPE) as begun:
        os.close(writing)
        assert (begun.wait(60), begun.stderr.read()) == (PIPE_CLOSED, "")


def test_collect_without_torch_says_what_works():
    code = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = ['collect/__main__.py', '--help'];"
        " runpy.run_module('collect', run_name='__main__')"
    )
    with process("-c", code, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as begun:
        said, wrong = begun.communicate(timeout=60)
    assert (begun.returncode, said, wrong.count("\n")) == (2, "", 1)
    assert "needs torch, which this Python lacks" in wrong
    assert "pip install -e '.[collect]'" in wrong
    pinned = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if '"torch==' in line)
    assert pinned.split('"')[1] in wrong


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["fresh", "--data"], "fresh: --data needs a value"), (["fresh", "--out", ""], "fresh: --out needs a value"),
        (["fresh", "--colour", "red"], "fresh: unknown option '--colour'"),
        (["logs", "nowhere"], "no such folder of logs"),
        (["logs", "empty"], "holds no logs; allowed: a folder of DEVICE/DATA folders"),
    ],
)  # fmt: skip
def test_the_script_refuses_in_one_line_from_any_folder(words, said, tmp_path):
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        ["bash", str(ROOT / "RUNME.sh"), *words], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert said in done.stderr
    if words[0] == "logs":
        assert f"{tmp_path}/{words[1]}" in done.stderr


def test_what_a_command_leaves_is_not_searched_for_garbage(monkeypatch):
    app, frozen = new_app("a stub"), []
    app.command()(lambda: None)
    monkeypatch.setattr(sys, "argv", ["stub"])
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(True))
    with pytest.raises(SystemExit) as ended:
        run(app, "stub")
    assert (ended.value.code, frozen) == (0, [True])
