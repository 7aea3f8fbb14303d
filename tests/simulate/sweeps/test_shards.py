"""Shards: two of a sweep at once, killed and resumed, merge to the bytes of the sweep that was not split."""

import json
import re
import signal
import subprocess
import sys
import time

import pytest
from sweep_worlds import start, toy_trace

from moe_replay.simulate.sweeps.shards import Shard, array_script, read_shard
from moe_replay.simulate.sweeps.store import locked
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace

SWEEP = (
    "sweep", "toy.trace.parquet", "--affine", "2000,100", "--axis", "queue_size=4,6,8,12,16",
    "--axis", "in_flight=64,128", "--replications", "2", "--engine", "simpy", "--out", "sweep.parquet",
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Two folders with the same trace; the sweep of one is whole."""
    folder = tmp_path_factory.mktemp("shards")
    for name in ("whole", "split"):
        save_trace(toy_trace(tokens=4_000), folder / name / "toy.trace.parquet")
    assert start(folder / "whole", *SWEEP).wait() == 0
    return folder


def points_in(folder):
    """How many points the parts in a folder hold."""
    return sum(len(json.loads(path.read_text())["results"]) for path in folder.glob("part-*.json"))


def test_two_shards_at_once_killed_and_resumed_merge_to_the_same_bytes(world):
    split, parts = world / "split", world / "split" / "sweep.parts"
    shards = [start(split, *SWEEP, "--jobs", "1", "--shard", f"{number}/2") for number in (1, 2)]
    deadline = time.monotonic() + 120
    while not list(parts.glob("part-1of2-*.json")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    shards[0].send_signal(signal.SIGKILL)
    shards[0].wait()
    assert shards[1].wait() == 0
    before = points_in(parts)
    assert before >= 10
    assert start(split, *SWEEP, "--jobs", "1", "--shard", "1/2").wait() == 0
    assert points_in(parts) == 20
    assert start(split, *SWEEP, "--merge").wait() == 0
    assert (split / "sweep.parquet").read_bytes() == (world / "whole" / "sweep.parquet").read_bytes()
    assert sorted(path.name for path in split.iterdir()) == ["sweep.parquet", "toy.trace.parquet"]


def simulate(*words):
    from moe_replay.simulate.__main__ import app

    return status_of(app, "simulate", list(words))


@pytest.fixture
def here(tmp_path, monkeypatch):
    save_trace(toy_trace(tokens=60), tmp_path / "toy.trace.parquet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["simulate/__main__.py", *SWEEP])
    return tmp_path


def test_merging_too_early_says_what_is_missing_and_keeps_what_is_there(here, capsys):
    assert simulate(*SWEEP, "--merge") == 2
    assert "no such folder; allowed: what the shards of this sweep wrote" in capsys.readouterr().err
    assert simulate(*SWEEP, "--shard", "2/3") == 0
    assert "when all are done: python -m simulate sweep toy.trace.parquet" in capsys.readouterr().out
    assert simulate(*SWEEP, "--merge") == 2
    said = capsys.readouterr().err
    assert "13 of 20 points are missing, the first is number 1, queues-B004-closed64" in said
    assert points_in(here / "sweep.parts") == 7
    assert not (here / "sweep.parquet").exists()
    assert simulate(*SWEEP) == 0  # what a shard has done counts for the whole too
    assert "7 of 20 points are there" in capsys.readouterr().err
    assert simulate(*SWEEP, "--shard", "2/3") == 0
    assert simulate(*SWEEP, "--merge") == 0


def test_who_holds_what(here, capsys):
    assert simulate(*SWEEP, "--shard", "1/2") == 0
    parts = here / "sweep.parts"
    with locked(parts / "lock-1of2"):
        assert simulate(*SWEEP, "--shard", "1/2") == 2
        assert "another process is carrying out shard 1/2 of this sweep" in capsys.readouterr().err
        assert simulate(*SWEEP) == simulate(*SWEEP, "--merge") == 2
        assert simulate(*SWEEP, "--shard", "2/2") == 0
    assert simulate(*SWEEP, "--merge") == 0


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/99999999", "-1/2"])
def test_what_is_no_shard_is_refused(text):
    with pytest.raises(InputError, match="allowed I/N"):
        read_shard(text)


def test_shards_part_the_points():
    for many in (1, 2, 7):
        held = [sum(Shard(number, many).holds(place) for number in range(1, many + 1)) for place in range(20)]
        assert held == [1] * 20


def test_options_that_exclude_each_other(here, capsys):
    assert simulate(*SWEEP, "--merge", "--shard", "1/2") == 2
    assert "--shard and --merge exclude each other" in capsys.readouterr().err


def test_the_script_of_an_array_carries_out_every_shard(here, capsys):
    assert simulate(*SWEEP, "--sbatch", "2") == 0
    script = capsys.readouterr().out
    assert "#SBATCH --array=1-2" in script
    assert not (here / "sweep.parts").exists()
    line = script.splitlines()[-1].replace("python -m simulate", "true")
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert re.search(r'--shard "\$SLURM_ARRAY_TASK_ID/2" --jobs "\$SLURM_CPUS_PER_TASK"$', line)
    assert "sweep.parquet --merge" in array_script(["python", "-m", "simulate", *SWEEP], 2)
