"""A sweep on a Dask cluster: the same bytes as here; a worker that dies, and a cluster that is none, are one line."""

import os
import signal
import sys
import threading
import time

import pytest
from sweep_worlds import closed_loops, swept, toy_study

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.sweeps import dask_cluster
from moe_replay.simulate.sweeps.dask_cluster import Submission
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.sweep_table import load_sweep

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")


@pytest.fixture
def cluster():
    """Two worker processes on this machine; a chunk that kills one is not tried again on the other."""
    settings = {"distributed.scheduler.allowed-failures": 0, "distributed.worker.memory.terminate": False}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as found,
    ):
        yield found


def workers(cluster):
    """The process ids of the workers."""
    with distributed.Client(cluster) as client:
        return list(client.run(os.getpid).values())


def test_two_workers_give_the_same_bytes_and_a_dead_one_loses_nothing(cluster, tmp_path):
    study, configs = toy_study(tmp_path, world={"tokens": 2000}), closed_loops(in_flight=64)
    there, here = tmp_path / "there.parquet", tmp_path / "here.parquet"
    stopped = workers(cluster)[0]
    os.kill(stopped, signal.SIGSTOP)  # what it is given it never finishes, so the sweep cannot end before it is killed

    def kill_it():
        while not list(there.with_suffix(".parts").glob("part-*")):
            time.sleep(0.01)
        os.kill(stopped, signal.SIGKILL)

    killer = threading.Thread(target=kill_it, daemon=True)
    killer.start()
    with pytest.raises(InputError, match=r"a Dask worker died .* again; \d+ of 12 points are in .*there.parts"):
        swept(study, configs, there, jobs=0, scheduler=cluster.scheduler_address)
    killer.join()
    swept(study, configs, there, jobs=0, scheduler=cluster.scheduler_address)
    swept(study, configs, here)
    assert there.read_bytes() == here.read_bytes()
    assert not there.with_suffix(".parts").exists()


def test_workers_know_what_was_registered_here(cluster, tmp_path):
    CACHES.register("mine", LRU)
    try:
        configs = [RunConfig(memory=MemoryConfig(cache=name)) for name in ("mine", "lru")]
        study, out = toy_study(tmp_path), tmp_path / "swept.parquet"
        points = swept(study, {each.name: each for each in configs}, out, scheduler=cluster.scheduler_address)
    finally:
        del CACHES["mine"], CACHES.digests["mine"]
    assert [point.status for point in points] == ["ok", "ok"] or [point.reason for point in points]
    assert points[0].counts == points[1].counts


def test_no_scheduler_is_one_line(tmp_path):
    study = toy_study(tmp_path)
    for address in ("tcp://127.0.0.1:1", "nowhere", "tcp://nowhere.invalid:1"):
        with pytest.raises(InputError, match=f"--dask {address}: no Dask scheduler answers"):
            swept(study, closed_loops(), tmp_path / "sweep.parquet", scheduler=address)


def test_a_cluster_without_workers_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "PATIENCE_S", 1.5)
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None, silence_logs=50) as empty,
        pytest.raises(InputError, match="the Dask cluster has no worker; 0 of 12 points are in"),
    ):
        swept(toy_study(tmp_path), closed_loops(), tmp_path / "sweep.parquet", scheduler=empty.scheduler_address)


def test_workers_with_other_sources_are_refused():
    with pytest.raises(InputError, match=r"a Dask worker runs source revision .*, allowed another, as here"):
        dask_cluster.timed(None, [], "another", {})


def test_without_dask_the_backend_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="dask is not installed; allowed: `pip install"):
        swept(toy_study(tmp_path), closed_loops(), tmp_path / "sweep.parquet", scheduler="tcp://127.0.0.1:1")


class NoCluster:
    """A client of two threads that carries a chunk out when it is waited for; points take a stated time."""

    def __init__(self, point_s):
        self.point_s, self.sizes = point_s, []

    def nthreads(self):
        return {"one": 2}

    def submit(self, function, study, chunk, revision, own, pure):
        self.sizes.append(len(chunk))
        return len(chunk) * self.point_s, [(place, {}) for place, _ in chunk]


@pytest.mark.parametrize(("point_s", "largest"), [(2.0, 1), (0.1, 10), (0.001, 250)])
def test_chunks_take_about_a_second_and_leave_something_for_everyone(monkeypatch, point_s, largest):
    class Done:
        def __init__(self, result):
            self.result = lambda: result

    client = NoCluster(point_s)
    submit = client.submit
    client.submit = lambda *words, **how: Done(submit(*words, **how))
    monkeypatch.setattr(Submission, "finished", lambda self, running: {next(iter(running))})
    found = list(Submission(client, None).results([(place, None) for place in range(1000)]))
    assert sorted(place for place, _ in found) == list(range(1000))
    assert client.sizes[:4] == [1, 1, 1, 1]
    assert max(client.sizes) <= largest
    assert max(client.sizes) >= 0.9 * largest
    assert client.sizes[-1] == 1


def test_points_that_were_never_begun_are_in_no_table(tmp_path):
    swept(toy_study(tmp_path), closed_loops(seeds=(0,)), tmp_path / "sweep.parquet")
    assert len(load_sweep(tmp_path / "sweep.parquet")[0]) == 3
