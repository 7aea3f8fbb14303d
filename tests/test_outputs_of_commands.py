"""Every command with an output: run twice it loses nothing, another's file stays, and `--force` is there to replace it.

A command that writes has a line here, or it is among those whose work takes too long and whose outputs pass the same
door (`traces.command_line.outputs.is_made`), which has tests of its own.
"""

import contextlib
import io
import resource
import shlex
import sys
from pathlib import Path

import pytest
from invocations import commands
from moe_tables import write_moe_tables
from test_invocations import STAGES, stage_app

from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.training_graphs.graph_file import save_graph
from moe_replay.traces.training_graphs.training_graph import training_graph

SETUP = (
    "traces make trace.parquet --sequences 6 --layers 2 --experts 4 --k 2 --prompt 2-3 --decode 2",
    "simulate run trace.parquet --affine 100,10 --jobs 1 --out runs",
    "simulate memory trace.parquet --affine 100,10 --expert-bytes 9 --cache lru --jobs 1 --out memory",
    "simulate miss-curves trace.parquet --out curves.csv",
    "simulate compose trace.parquet --affine 100,10 --requests served.csv",
    "analysis miss-ratio curves.csv --out tables",
    "traces make logs/cpu/toy/base.trace.parquet --sequences 6 --layers 2 --experts 4 --k 2",
    "traces export npz trace.parquet --out arrays.npz",
    "traces export eplb trace.parquet --out weight.npz",
    "traces import eplb weight.npz --k 2 --out loads.parquet",
)
GRAPH = [(1, 0, False, [1]), (2, 1, False, [2])]  # storages of three operations
WRITING = {
    "traces make": "x.parquet --sequences 3 --seed 5",
    "traces roofline": "--gpu h100 --width 64 --hidden 32 --experts 4 --k 2 --out x.parquet",
    "traces import-costs": "--tables moe --gpu toy_sxm --k 1 --out x.parquet",
    "traces regate": "trace.parquet --k 1 --out x.parquet",
    "traces import": "npz arrays.npz --experts 4 --phase decode --score-kind none --out x.parquet",
    "traces arrivals": "trace.parquet log.csv --from mooncake --out x.parquet",
    "traces export": "eplb trace.parquet --out x.npz",
    "traces compact": "runs --out x",
    "simulate run": "trace.parquet --affine 100,20 --jobs 1 --replications 2 --out x",
    "simulate compose": "trace.parquet --affine 100,20 --out x.parquet",
    "analysis requests": "served.csv --out x.csv",
    "simulate like": "runs trace.parquet --affine 100,20 --jobs 1 --replications 2 --out x",
    "simulate sweep": "trace.parquet --affine 100,20 --axis queue_size=1,2 --jobs 1 --out x.parquet",
    "simulate misses": "trace.parquet --slots 2 --out x.csv",
    "simulate rebalance": "trace.parquet --devices 2 --batch 4 --out x.csv",
    "simulate end-to-end": "trace.parquet --affine 100,20 --step-tokens 4 --token-bytes 8 --devices 2 --out x.csv",
    "simulate skew": "nvidia-h200/gpt-oss-20b-vllm --tokens 8 --devices 1,2 --out x.csv",
    "simulate pools": "loads.parquet --devices 2 --width 8 --hidden 8 --out x.csv",
    "simulate order": "toy.graph.json --policy lpmf --out x.json",
    "simulate fuse": "toy.graph.json --pairs 1 --seconds 1 --out x.csv",
    "simulate timeline": "runs --out x.pftrace",
    "simulate place": "trace.parquet --devices 2 --batch 4 --method lpt --fit trace --out x",
    "simulate memory": "trace.parquet --affine 100,20 --expert-bytes 9 --cache lru --jobs 1 --out x",
    "analysis tables": "logs --only locality --out x",
    "analysis runs": "runs --out x.csv",
    "analysis locality": "trace.parquet --out x",
    "simulate miss-curves": "trace.parquet --out x.csv",
    "analysis miss-ratio": "curves.csv --out x",
    "analysis memory": "memory --out x.csv",
    "figures draw": "tables --only miss_ratio --out x",
    "figures report": "trace.parquet --out x.html",
    "figures plot": "curves.csv --format png --out x",
    "collect train": "--data digits --epochs 1 --train-images 200 --test-images 50 --device cpu --out x.pt",
    "collect layer-costs": "olmoe --scale 256 --sizes 1 --repetitions 1 --device cpu --out x",
    "collect link": "--shapes olmoe --scale 256 --repetitions 1 --device cpu --out x.parquet",
    "collect graph": "--model classifier --batch 4 --layers 1 --experts 2 --k 1 --device cpu --out x.json",
    "collect dispatch-memory": "--like none --batch 8 --experts 4 --k 1 --repetitions 1 --device cpu --out x.csv",
}  # fmt: skip
LONG = {
    "analysis smartmoe",  # of published files
    "simulate open-loop", "simulate plan", "collect quality", "collect family", "collect operating-points",
    "collect operating-times", "collect costs", "collect execute", "collect swap-quality", "collect skip-exchange",
    "collect language", "collect language-quality", "collect language-route", "collect swap-profile", "collect route",
    "collect rules", "collect serve", "collect video", "collect vision", "collect vision-grid", "collect vision-times",
    "collect shape-runs", "collect quick", "collect fresh", "collect peak-memory", "collect compiled-steps",
    "simulate logs",
    "collect ports", "simulate all-to-all",  # the second reads what the first took seconds to record
}  # fmt: skip
HOLES = ("analysis tables",)  # of a folder that holds no whole set of logs: status 1
RESUMED = (  # what is there is continued, another's refused
    "collect train", "collect family", "collect language", "collect quick", "collect shape-runs", "collect fresh",
    "simulate logs",
)  # fmt: skip


def writing_commands():
    """Every command with an output, and its parameters."""
    for stage in STAGES:
        if stage == "collect":
            pytest.importorskip("torch")
        for name, parameters in commands(stage_app(stage)).items():
            if {"out", "models"} & {each.name for each in parameters}:
                yield f"{stage} {name}", parameters


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Return a function (line) -> (status, errors) of a command, in a folder with inputs."""
    monkeypatch.chdir(tmp_path)

    def call(line):
        stage, *words = shlex.split(line)
        monkeypatch.setattr(sys, "argv", [f"{stage}/__main__.py", *words])
        said, wrong = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(wrong):
            status = status_of(stage_app(stage), stage, words)
        return status, wrong.getvalue()

    save_graph(training_graph("toy", [(f"{v}", "x", "forward", 0) for v in range(3)], GRAPH), "toy.graph.json")
    write_moe_tables(Path("moe"))
    requests = [f"{1000 * at},3,2" for at in range(6)]
    Path("log.csv").write_text("\n".join(["timestamp,input_length,output_length", *requests]))
    for line in SETUP:
        status, errors = call(line)
        assert status == 0, errors
    return call


def files(folder):
    """{path: bytes} of all files."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_every_command_that_writes_is_tried_or_named_here():
    assert {name for name, _ in writing_commands()} == {*WRITING, *LONG}


def test_every_command_that_writes_can_be_forced_or_continues():
    lacking = [
        name for name, parameters in writing_commands()
        if not any(each.flag == "--force" for each in parameters) and name not in RESUMED
    ]  # fmt: skip
    assert not lacking


@pytest.mark.parametrize("name", WRITING)
def test_nothing_is_lost(name, run, tmp_path):
    stage = name.split()[0]
    if stage == "collect":
        pytest.importorskip("torch")
    fine = (0, 1) if name in HOLES else (0,)
    line, inputs = f"{name} {WRITING[name]}", files(tmp_path)
    status, errors = run(line)
    assert status in fine, errors
    made = {path: content for path, content in files(tmp_path).items() if path not in inputs}
    assert made
    # the same command: left, or made again to the same bytes
    status, errors = run(line)
    assert status in fine, errors
    assert files(tmp_path) == inputs | made
    # another's file in the place of any of them
    for path, content in made.items():
        if path.name == "claims.json":
            continue
        path.write_bytes(b"somebody's")
        status, errors = run(line)
        assert (status, path.read_bytes()) == (2, b"somebody's"), f"{path.name}: {errors}"
        assert errors.strip().splitlines()[-1].startswith(f"{stage}: ")
        path.write_bytes(content)
    if name not in RESUMED:
        first = next(iter(made))
        first.write_bytes(b"somebody's")
        status, errors = run(f"{line} --force")
        assert status in fine, errors
        assert first.read_bytes() != b"somebody's"
    assert {path: path.read_bytes() for path in inputs} == inputs


@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk_is_one_line_and_leaves_what_was_there(name, run, tmp_path):
    """A limit on the size of files serves as a full disk: what is written fails in the middle."""
    stage = name.split()[0]
    if stage == "collect":
        pytest.importorskip("torch")
    before = files(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
        status, errors = run(f"{name} {WRITING[name]}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    last = [line for line in errors.splitlines() if line.strip()][-1]
    assert (status, "Traceback" in errors) == (2, False), errors
    assert last.startswith(f"{stage}: ")
    assert "allowed:" in last
    left = {path for path in files(tmp_path) if path not in before and path.stat().st_size > 0}
    assert not {path for path in left if "tmp" in path.name}
    assert {path: path.read_bytes() for path in before} == before
