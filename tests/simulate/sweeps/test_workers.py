"""Points on the cores of this machine: a worker that dies is told in one line, and nothing comes after it."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import joblib
import pytest

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.run_folder import simulate_all
from moe_replay.simulate.sweeps.workers import WorkersLostError, cores, deaf_to_ctrl_c, unordered
from moe_replay.traces.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
LEAKING = """
from joblib.externals.loky.backend.resource_tracker import register
from moe_replay.simulate.sweeps.workers import unordered
print(sorted(unordered(divmod, [(7, 2), (8, 3)], 2, "simpy")))
register("/of-a-dead-worker", "semlock")
"""
MASKS = """
import signal
from moe_replay.simulate.sweeps.workers import unordered
blocked = (signal.SIG_BLOCK, ())
print(*[signal.SIGINT in mask for mask in unordered(signal.pthread_sigmask, [blocked] * 2, 2, "simpy")])
print(signal.SIGINT in signal.pthread_sigmask(*blocked))
"""


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize("many", [1, 2])
def test_every_task_is_carried_out(engine, many):
    tasks = [(number, 3) for number in range(10)]
    assert sorted(unordered(divmod, tasks, many, engine)) == [divmod(number, 3) for number in range(10)]


def test_no_more_workers_than_points():
    assert [cores(*words) for words in ((2, 9), (2, 1), (0, 0), (3, 0))] == [2, 1, 1, 1]
    assert cores(0, 1000) == joblib.cpu_count()


def test_a_dead_worker_is_told():
    with pytest.raises(WorkersLostError, match="a worker process died in the middle of a point"):
        list(unordered(os._exit, [(1,), (1,)], 2, "simpy"))


@pytest.mark.skipif(os.name != "posix", reason="named semaphores")
def test_what_a_dead_worker_leaves_behind_is_cleaned_up_without_a_word():
    """As when one dies with a semaphore in hand: joblib's tracker finds it after this process has ended."""
    done = subprocess.run([sys.executable, "-c", LEAKING], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[(2, 2), (3, 1)]\n", "")


@pytest.mark.skipif(os.name != "posix", reason="signal masks")
def test_ctrl_c_is_for_the_first_process_alone():
    """In a process of its own: who has started others before has what joblib starts first already."""
    done = subprocess.run([sys.executable, "-c", MASKS], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True\nFalse\n", "")


@pytest.mark.skipif(os.name != "posix", reason="signal masks")
@pytest.mark.parametrize("many", [0, 1])
def test_ctrl_c_waits_until_all_have_been_started(many):
    """It may reach another thread, which lets it through."""
    over, reached = threading.Event(), []
    others = [threading.Thread(target=over.wait) for _ in range(many)]
    for other in others:
        other.start()

    def start_others():
        with deaf_to_ctrl_c(True):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            reached.append(True)

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            start_others()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
        over.set()
    assert reached


@pytest.mark.skipif(os.name != "posix", reason="signal masks")
def test_ctrl_c_that_is_ignored_stays_so():
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with deaf_to_ctrl_c(True):
            os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, handler)


def test_warnings_are_as_before(monkeypatch):
    for before in ("error", None):
        monkeypatch.delenv("PYTHONWARNINGS", raising=False)
        if before:
            monkeypatch.setenv("PYTHONWARNINGS", before)
        list(unordered(divmod, [(7, 2)], 1, "compiled"))
        assert os.environ.get("PYTHONWARNINGS") == before


def test_runs_that_are_complete_outlive_a_worker(tmp_path):
    """Of four runs one is there, one kills who simulates it."""

    def carry_out(name, config):
        if config.queue_size == 4:
            os._exit(1)
        return name, ""

    configs = {f"b{size}": RunConfig(queue_size=size) for size in (1, 2, 3, 4)}
    runs = SimpleNamespace(
        folder=tmp_path, engine="simpy", carry_out=carry_out, is_complete=lambda name, config: name == "b1"
    )
    with pytest.raises(InputError, match=rf"died .*; [123] of 4 runs are in {tmp_path}, the same command continues"):
        simulate_all(runs, configs, 2)
