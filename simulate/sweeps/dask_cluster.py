"""The points of a sweep on a Dask cluster, whose workers open the trace and the costs by path themselves."""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import CancelledError
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from moe_replay.simulate.policies.rule_names import registered, take_over
from moe_replay.simulate.sweeps.points import Work, carry_out_all
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.workers import WorkersLostError
from moe_replay.traces.command_line.provenance import source_revision
from moe_replay.traces.errors import InputError

if TYPE_CHECKING:
    from distributed import Client

CHUNK_S = 1.0  # points that take less travel together
AHEAD = 2  # chunks under way per thread of the cluster
PATIENCE_S = 10.0  # how long a cluster may have no worker


def results_there(study: Study, work: Work, address: str) -> Iterator[tuple[int, dict]]:
    """Yield (place, result) of every point as it finishes on the cluster of a scheduler.

    WorkersLostError where a point killed its workers, or no worker or scheduler is left; InputError where there never
    was a scheduler.
    """
    try:
        from distributed import Client
        from distributed.scheduler import KilledWorker
    except ImportError:
        raise InputError("--dask: dask is not installed; allowed: `pip install -e '.[dask]'` in a checkout") from None
    try:
        check_listens(address)
        client = Client(address, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"--dask {address}: no Dask scheduler answers ({str(error)[:80]})") from None
    with quiet("distributed"):
        try:
            yield from Submission(client, study.absolute()).results(work)
        except KilledWorker:
            raise WorkersLostError("a Dask worker died in a point, and so did whoever took it up again") from None
        except (CancelledError, OSError):
            if client.status == "running":
                raise
            raise WorkersLostError(f"the Dask scheduler {address} is gone") from None
        finally:
            client.close(timeout=1)


@contextlib.contextmanager
def quiet(package: str) -> Iterator[None]:
    """Keep a package from logging what goes wrong: it is said once, by us."""
    loggers = [logging.getLogger(name) for name in logging.root.manager.loggerDict if name.split(".")[0] == package]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_listens(address: str) -> None:
    """Raise OSError or ValueError where nothing listens at an address; a Client that fails leaves threads behind."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme in ("tcp", "tls"):
        if not parts.hostname or not parts.port:
            raise ValueError("allowed: HOST:PORT")
        socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S).close()


class Submission:
    """Points handed out in chunks that take about a second, a few ahead of those that are carried out."""

    def __init__(self, client: Client, study: Study) -> None:
        self.client, self.study = client, study
        self.point_s: float | None = None  # how long a point takes; the first chunks have one each
        self.busy_s = time.monotonic()

    def results(self, work: Work) -> Iterator[tuple[int, dict]]:
        """Yield (place, result) of every point, in the order in which chunks finish."""
        waiting, running = list(reversed(work)), set()
        while waiting or running:
            while waiting and len(running) < AHEAD * self.threads():
                chunk = [waiting.pop() for _ in range(min(self.chunk_size(len(waiting)), len(waiting)))]
                running.add(self.client.submit(timed, self.study, chunk, own_revision(), registered(), pure=False))
            for future in self.finished(running):
                running.discard(future)
                seconds, results = future.result()
                self.point_s = seconds / len(results)
                yield from results

    def threads(self) -> int:
        """Return the threads of all workers, 1 where there is none: a chunk then waits for the first to come."""
        return max(1, sum(self.client.nthreads().values()))

    def chunk_size(self, left: int) -> int:
        """Return how many points the next chunk has: about a second's, and an even share of what is left at most."""
        if self.point_s is None:
            return 1
        return max(1, min(int(CHUNK_S / max(self.point_s, 1e-6)), left // (AHEAD * self.threads())))

    def finished(self, running: set) -> set:
        """Return the futures that are done; WorkersLostError where the cluster has had no worker for a while."""
        from distributed import wait

        if not running:
            return set()
        try:
            with self.client.as_current():
                done = wait(running, timeout=1, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            done = set()
        if done or self.client.nthreads():
            self.busy_s = time.monotonic()
        elif time.monotonic() - self.busy_s > PATIENCE_S:
            raise WorkersLostError("the Dask cluster has no worker")
        return done


def timed(study: Study, chunk: Work, revision: str, own: Mapping) -> tuple[float, list[tuple[int, dict]]]:
    """Return how long a chunk took, in seconds, and its results; InputError on a worker with other sources.

    `own` are rules that were registered here.
    """
    if own_revision() != revision:
        raise InputError(f"a Dask worker runs source revision {own_revision()}, allowed {revision}, as here")
    take_over(own)
    started = time.perf_counter()
    results = carry_out_all(study, chunk)
    return time.perf_counter() - started, results


@lru_cache(maxsize=1)
def own_revision() -> str:
    """Return the source revision of this process."""
    return source_revision()
