"""Tasks in processes beside this one: a bar says what runs, how far, how long yet, and Ctrl-C ends them at once."""

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

from moe_replay.traces.command_line.task_bar import TaskBar


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
        try:  # the first may be running before the last is handed in
            futures = {processes.submit(work, *arguments): name for name, arguments in tasks.items()}
            open_ones = list(futures)
            while open_ones:
                bar.show(len(futures) - len(open_ones), [futures[each] for each in open_ones[:workers]])
                for each in wait(open_ones, return_when=FIRST_COMPLETED).done:
                    each.result()
                    open_ones.remove(each)
        except BaseException:  # without its processes the pool ends by itself, what waits in it included
            for process in multiprocessing.active_children():
                process.terminate()
            raise
    return {name: future.result() for future, name in futures.items()}


def begin(initializer: Callable[..., object] | None, initargs: tuple) -> None:
    """Begin a process: Ctrl-C is left to the one that waits for it, which says it once."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if initializer is not None:
        initializer(*initargs)
