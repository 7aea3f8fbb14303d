"""Hundreds of wrong or extreme invocations of every command: one line, exit status 0 or 2, and nothing is lost.

They are drawn from the commands' own options, so that a new option is tried without a line here.
"""

import contextlib
import io
import os
import resource
import shlex
import shutil
import signal
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import typer
from invocations import Draw, commands, input_files, restored, state_of
from moe_tables import write_moe_tables

from moe_replay.traces.command_line.command import PIPE_CLOSED, new_app, status_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.training_graphs.graph_file import save_graph
from moe_replay.traces.training_graphs.training_graph import training_graph

STAGES = ("traces", "simulate", "analysis", "figures", "collect")
EACH = 14  # invocations of every command
SEED = int(os.environ.get("INVOCATIONS_SEED", "0"))
LONGEST_S = 60  # a machine with other work
LARGEST = 3 << 30  # bytes that an invocation may add to this process's addresses
RIGHT_FOR = {  # where a name means something else in one command
    "like": {"only": "*", "out": "like"}, "regate": {"k": "1"}, "export": {"kind": "eplb", "out": "out.npz"},
    "misses": {"out": "out.csv"}, "plan": {"out": "out.csv"}, "runs": {"out": "out.csv"},
    "miss-curves": {"out": "out.csv"}, "order": {"policy": "lpmf", "out": "out.json"},
    "end-to-end": {"out": "out.csv"}, "skew": {"out": "out.csv", "served": "nvidia-h200/qwen3-30b-a3b-vllm"},
    "import-costs": {"gpu": "toy_sxm", "experts": "8"},
}  # fmt: skip
TRAINING = (
    "language",
    "dispatch-memory",
    "graph",
    "peak-memory",
    "compiled-steps",
    "quick",
    "fresh",
    "layer-costs",
    "link",
    "ports",
)  # need no files, as nothing does that takes the digits: they would begin
SERVING = "moe_replay.figures.live.page_server.until_ctrl_c"  # what `figures live` would stay in
HOLES = {
    "analysis": ("tables", "runs", "open-loop"),
    "figures": ("draw", "report", "plot"),
}  # may end with 1: a hole with a name


def stage_app(stage):
    """Return the application of a stage with all its commands."""
    if stage == "collect":
        pytest.importorskip("torch")
        import moe_replay.collect.__main__ as entry

        return entry.application()
    return import_module(f"moe_replay.{stage}.__main__").app


def everything():
    """Every (stage, command) that this Python can run."""
    for stage in STAGES:
        if stage != "collect" or find_spec("torch"):
            for command in commands(stage_app(stage)):
                yield stage, command


def call(app, stage, words):
    """Return (status, output, errors) of an invocation under limits of time and memory."""
    said, wrong = io.StringIO(), io.StringIO()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()

    def too_slow(*_):
        raise AssertionError(f"took more than {LONGEST_S} s")

    before = signal.signal(signal.SIGALRM, too_slow)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (used + LARGEST, hard))
        signal.alarm(LONGEST_S)
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            status = status_of(app, stage, words)
    except SystemExit as ended:
        status = ended.code
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    return status, said.getvalue(), wrong.getvalue()


def fault_of(app, stage, command, words):
    """Return what is wrong with how an invocation ended, empty where nothing is."""
    try:
        status, said, errors = call(app, stage, words)
    except BaseException:
        return f"raised\n{traceback.format_exc()}"
    if "Traceback" in said + errors:
        return f"printed a traceback:\n{said}{errors}"
    if status == 1 and command in HOLES.get(stage, ()):
        return ""
    if status not in (0, 2):
        return f"ended with status {status}:\n{said}{errors}"
    last = errors.strip().splitlines()[-1:] or [""]
    if status == 2 and not last[0].startswith(f"{stage}: "):
        return f"ended with status 2 and said:\n{errors}"
    return ""


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """(pristine inputs, a copy of them that commands are given, an empty folder to work in)."""
    pristine, inputs = tmp_path_factory.mktemp("pristine") / "inputs", tmp_path_factory.mktemp("given") / "inputs"
    pristine.mkdir()
    right_inputs(pristine)
    input_files(pristine)
    shutil.copytree(pristine, inputs, symlinks=True)
    return pristine, inputs, tmp_path_factory.mktemp("stand")


def right_inputs(folder):
    """Write small inputs that commands read: a trace, loads, costs, runs with and without memory, a sweep, tables."""
    rows = [(f"{v}", "x", "forward", 0) for v in range(3)]
    save_graph(training_graph("toy", rows, [(1, 0, False, [1]), (2, 1, False, [2])]), folder / "toy.graph.json")
    write_moe_tables(folder / "tables")
    with contextlib.chdir(folder):
        for stage, line in (
            ("traces", "make trace.parquet --sequences 6 --layers 2 --experts 4 --k 2 --prompt 2-3 --decode 2"),
            ("traces", "make other-trace.parquet --sequences 3 --layers 3 --experts 5 --k 1 --prompt 2 --decode 1"),
            ("simulate", "run trace.parquet --affine 100,10 --jobs 1 --out runs"),
            ("simulate", "memory trace.parquet --affine 100,10 --expert-bytes 9 --cache lru --jobs 1 --out memory"),
            ("simulate", "sweep trace.parquet --affine 100,10 --axis queue_size=1,2 --jobs 1 --out sweep.parquet"),
            ("simulate", "compose trace.parquet --affine 100,10 --requests served.csv"),
            ("analysis", "locality trace.parquet --out tables"),
            ("traces", "export tensorrt-llm trace.parquet --out statistics"),
            ("traces", "import tensorrt-llm statistics --out loads.parquet"),
        ):
            status, _, errors = call(stage_app(stage), stage, shlex.split(line))
            assert status == 0, errors


def right_words(folder):
    """What is right for parameters of these names, so that many invocations get far; {name: word}."""
    return {
        "graph_path": f"{folder}/toy.graph.json", "trace_path": f"{folder}/trace.parquet",
        "path": f"{folder}/trace.parquet", "trace": f"{folder}/trace.parquet",
        "paths": f"{folder}/trace.parquet", "traces": f"{folder}/trace.parquet", "source": f"{folder}/trace.parquet",
        "affine": "100,10", "jobs": "1", "out": "out", "folder": f"{folder}/memory", "executed": f"{folder}/runs",
        "runs": f"{folder}/runs",
        "tables": f"{folder}/tables", "kind": "npz", "files": f"{folder}/arrays.npz", "axis": "queue_size=1,2",
        "experts": "4", "phase": "decode", "expert_bytes": "9", "logs": f"{folder}/logs", "rules": str(folder),
        "memory": "1MB", "profiles": f"{folder}/table.csv", "only": "locality", "checkpoint": f"{folder}/binary",
        "table_path": f"{folder}/served.csv", "requests": "out.csv",
        "camera": "static", "clip": f"{folder}/binary", "name": "x", "models": "models", "data": "cifar10",
        "points": f"{folder}/other.parquet", "costs": None,
    }  # fmt: skip


@pytest.mark.parametrize(("stage", "command"), list(everything()))
def test_wrong_and_extreme_invocations(stage, command, places, monkeypatch):
    pristine, inputs, stand = places
    app = stage_app(stage)
    parameters = commands(app)[command]
    right = {name: word for name, word in right_words(inputs).items() if word is not None}
    right |= RIGHT_FOR.get(command, {})
    draw = Draw(SEED + sum(map(ord, stage + command)), inputs, right)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("MOE_REPLAY_DATA", str(stand / "no data"))
    if command == "live":
        pytest.importorskip("bokeh")
        monkeypatch.setattr(SERVING, lambda server: None)
    before = state_of(inputs)
    for number in range(EACH):
        here = stand / f"{stage}-{command}-{number}"
        here.mkdir()
        monkeypatch.chdir(here)
        words = draw.words(parameters)
        if stage == "collect" and (number % 2 or command in TRAINING or "digits" in words):
            at = words.index("--") if "--" in words else len(words)
            words[at:at] = ["--device", "no such device"]
        words = [command, *words]
        shown = f"python -m {stage} {shlex.join(words)}"
        monkeypatch.setattr(sys, "argv", [f"{stage}/__main__.py", *words])
        fault = fault_of(app, stage, command, words)
        assert not fault, f"{shown}\n{fault}"
        check_kept(shown, words, before, pristine, inputs)  # the folder stays: worker processes may be in it


def check_kept(shown, words, before, pristine, inputs):
    """Nothing that was there is lost; `--force` may replace an output, and then the folder is put back."""
    after = state_of(inputs)
    changed = [name for name, state in before.items() if after.get(name) != state and not (inputs / name).is_dir()]
    if "--force" in words:
        changed = [name for name in changed if words.count(str(inputs / name)) > 1]
    assert not changed, f"{shown}\nchanged {changed}"
    if after != before:
        restored(pristine, inputs)
        before.clear()
        before.update(state_of(inputs))


def test_there_are_enough_of_them():
    tried = list(everything())
    assert EACH * len(tried) >= (500 if ("collect", "train") in tried else 300)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (ValueError("a slip"), "raised"), (RuntimeError("a slip"), "raised"), (SystemExit(3), "ended with status 3"),
        (InputError("bad"), ""), (OSError(28, "No space left on device", "x"), ""), (MemoryError(), ""),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), ""), (KeyboardInterrupt(), "ended with status 130"),
    ],
)  # fmt: skip
def test_the_check_tells_a_broken_command_from_a_right_one(error, fault):
    """A program's own slip is never hidden: it fails here; what the world does to it is one line."""
    app = new_app("a stub")

    @app.command()
    def one():
        """Fail."""
        raise error

    @app.command()
    def two():
        """Be there, so that the first one is called by its name."""

    found = fault_of(app, "stub", "one", ["one"])
    assert found.startswith(fault)
    assert bool(found) == bool(fault)


def test_the_check_tells_what_is_lost_slow_or_large(places, tmp_path):
    pristine, inputs, _ = places
    before = state_of(inputs)
    (inputs / "table.csv").write_text("overwritten")
    with pytest.raises(AssertionError, match=r"changed \['table.csv'\]"):
        check_kept("a command", [], before, pristine, inputs)
    restored(pristine, inputs)
    app = typer.Typer()

    @app.command()
    def fill(size: int):
        """Fill memory."""
        np.ones(size)

    assert fault_of(app, "stub", "fill", ["1000000"]) == ""
    status, _, errors = call(app, "stub", ["10000000000"])
    assert (status, "needs more memory than there is" in errors) == (2, True)
    assert PIPE_CLOSED == 141
