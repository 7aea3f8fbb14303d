"""Tasks in processes beside this one: a bar says what runs, how far, how long yet, and Ctrl-C ends them at once."""

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager

from moe_replay.traces.command_line.task_bar import TaskBar

NOTICED_S = 0.1  # within which a Ctrl-C is noticed at the latest


def in_processes(
    work: Callable[..., object], tasks: dict[str, tuple], workers: int, doing: str,
    initializer: Callable[..., object] | None = None, initargs: tuple = (),
) -> dict[str, object]:  # fmt: skip
    """Return {name: work(*arguments)} for {name: arguments}, so many at once, begun in this order.

    `doing` is what the bar on stderr says; where that is no terminal, nothing is shown. What one task raises, and
    Ctrl-C, ends the others and is raised here.
    """
    with (
        TaskBar(doing, len(tasks)) as bar,
        ProcessPoolExecutor(workers, initializer=begin, initargs=(initializer, initargs)) as processes,
    ):
        try:
            with interrupt_later():  # the pool may not be left with a task half handed in
                futures = {processes.submit(work, *arguments): name for name, arguments in tasks.items()}
            open_ones = list(futures)
            while open_ones:
                bar.show(len(futures) - len(open_ones), [futures[each] for each in open_ones[:workers]])
                # A signal that comes just before one waits for a lock is noticed when the wait ends.
                for each in wait(open_ones, NOTICED_S, FIRST_COMPLETED).done:
                    each.result()
                    open_ones.remove(each)
        except BaseException:  # without its processes the pool ends by itself, what waits in it included
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return {name: future.result() for future, name in futures.items()}


@contextmanager
def interrupt_later() -> Iterator[None]:
    """Let a Ctrl-C that comes within the block act at its end; in another thread than the first none can come."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    former = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if former is None else former)
    if came:
        signal.raise_signal(signal.SIGINT)


def begin(initializer: Callable[..., object] | None, initargs: tuple) -> None:
    """Begin a process: Ctrl-C is left to the one that waits for it, which says it once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if initializer is not None:
        initializer(*initargs)
