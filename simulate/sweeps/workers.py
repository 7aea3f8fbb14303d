"""The cores of this machine: threads of this process for compiled work, which holds no lock, processes for SimPy."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import resource_tracker
from typing import TypeVar

import joblib

from moe_replay.simulate.policies.rule_names import registered, take_over
from moe_replay.traces.errors import InputError

Result = TypeVar("Result")

BACKEND_OF = {"compiled": "threading", "simpy": "loky"}  # compiled code runs without the lock that Python threads share


class WorkersLostError(InputError):
    """Those who carry the points out are gone; what they finished is not."""


def cores(jobs: int, points: int) -> int:
    """Return how many workers so many points keep busy when asked for `jobs`, 0 for one on every core; at least 1."""
    return min(jobs if jobs > 0 else joblib.cpu_count(), points) or 1


def unordered(
    function: Callable[..., Result], tasks: Iterable[tuple], many: int, engine: str, batch_size: int | str = "auto"
) -> Iterator[Result]:
    """Yield what a function returns for every task, a tuple of its arguments, as it finishes, on so many cores.

    The engine decides who works, `batch_size` how many tasks travel to a process together, as in `joblib.Parallel`.
    WorkersLostError where a process died in the middle of a task.
    """
    backend = BACKEND_OF[engine]
    if backend == "loky" and many > 1 and (own := registered()):
        function = partial(with_rules, own, function)
    parallel = joblib.Parallel(many, backend=backend, return_as="generator_unordered", batch_size=batch_size)
    try:
        with quiet_tracker(), deaf_to_ctrl_c(backend == "loky" and many > 1):
            found = parallel(joblib.delayed(function)(*task) for task in tasks)
        yield from found
    except BrokenProcessPool:
        raise WorkersLostError("a worker process died in the middle of a point (killed, or out of memory)") from None


def with_rules(own: Mapping, function: Callable[..., Result], *task: object) -> Result:
    """Carry out a task in a process that has not registered a user's own rules itself."""
    take_over(own)
    return function(*task)


@contextlib.contextmanager
def quiet_tracker() -> Iterator[None]:
    """Keep joblib's resource tracker, a process that is started here, from warning of what a dead worker left behind.

    It cleans that up after this process has ended, and would say so after the one line that says what happened.
    """
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [before, "ignore:resource_tracker"]))
    try:
        yield
    finally:
        del os.environ["PYTHONWARNINGS"]
        if before is not None:
            os.environ["PYTHONWARNINGS"] = before


@contextlib.contextmanager
def deaf_to_ctrl_c(processes: bool) -> Iterator[None]:
    """Let processes that are started here never see Ctrl-C, which a terminal sends to all: this one ends them.

    One that is interrupted while it starts would leave a traceback. Here Ctrl-C waits until they have been started.
    """
    if not processes or not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # Python's own, which joblib starts too: that lets Ctrl-C through again
    heard, handler = [], signal.getsignal(signal.SIGINT)
    mine = callable(handler) and threading.current_thread() is threading.main_thread()
    if mine:  # other threads, which libraries have, let it through
        signal.signal(signal.SIGINT, lambda *_: heard.append(True))
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if mine:
            signal.signal(signal.SIGINT, handler)
        if heard:
            signal.raise_signal(signal.SIGINT)
