"""The processes that answer: one for quick questions, one for long ones, so that no slider waits."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context, parent_process
from typing import Protocol

from moe_replay.figures.live.latest import Lane, Numbers
from moe_replay.simulate.sweeps.workers import deaf_to_ctrl_c

QUICK, LONG = "quick", "long"
LOOKS_S = 0.2  # how often a process looks whether the page is still there


class SharedByte(Protocol):
    """A byte that processes share: 0 until the page ends."""

    value: int


class AnsweringProcesses:
    """Two processes of one worker each; one that died is replaced when it is asked next. Close it, or use `with`."""

    def __init__(self) -> None:
        self.context = get_context("spawn")  # a fork would copy the threads of the page's server
        # No Event: to set one waits for ever for a process that was killed while it waited for it.
        self.ended = self.context.RawValue("b", 0)
        self.pools = {name: self.new_pool() for name in (QUICK, LONG)}

    def new_pool(self) -> ProcessPoolExecutor:
        """Return a pool of one process, which starts when it is asked first."""
        return ProcessPoolExecutor(1, mp_context=self.context, initializer=begin, initargs=(self.ended,))

    def submit(self, name: str, function: Callable, *arguments: object) -> Future:
        """Ask one of the processes; its answers come in the order of the questions."""
        with deaf_to_ctrl_c(True):
            try:
                return self.pools[name].submit(function, *arguments)
            except BrokenProcessPool:
                self.pools[name] = self.new_pool()
                return self.pools[name].submit(function, *arguments)

    def door(self, name: str) -> Callable[..., Future]:
        """Return what a `Lane` submits questions to."""
        return partial(self.submit, name)

    def close(self) -> None:
        """End both processes, in the middle of a run where they are in one."""
        self.ended.value = 1
        for pool in self.pools.values():
            pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> AnsweringProcesses:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def begin(ended: SharedByte) -> None:
    """Leave Ctrl-C to the page's process, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=follow, args=(ended,), daemon=True).start()


def follow(ended: SharedByte) -> None:
    """End this process once it is told to, or its parent is gone; a run is not waited for."""
    while not ended.value and parent_process().is_alive():
        time.sleep(LOOKS_S)
    os._exit(0)


@dataclass(frozen=True)
class Lanes:
    """Makes lanes to the processes; `on_loop` runs a function where the page is changed."""

    processes: AnsweringProcesses
    on_loop: Callable[[Callable[[], None]], None]

    def quick(self, numbers: Numbers) -> Lane:
        """Return a lane for answers while a slider moves."""
        return Lane(self.processes.door(QUICK), self.on_loop, numbers)

    def long(self, numbers: Numbers) -> Lane:
        """Return a lane for answers that may take their time."""
        return Lane(self.processes.door(LONG), self.on_loop, numbers)
