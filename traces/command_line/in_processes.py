"""Tasks in processes beside this one: a bar says what runs, how far, how long yet, and Ctrl-C ends them at once."""

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SHOWN = 3  # names of what runs


def in_processes(
    work: Callable[..., object], tasks: dict[str, tuple], workers: int, doing: str,
    initializer: Callable[..., object] | None = None, initargs: tuple = (),
) -> dict[str, object]:  # fmt: skip
    """Return {name: work(*arguments)} for {name: arguments}, so many at once, begun in this order.

    `doing` is what the bar on stderr says; where that is no terminal, nothing is shown. What one task raises, and
    Ctrl-C, ends the others and is raised here.
    """
    console = Console(stderr=True)
    shown = {"console": console, "transient": True, "disable": not console.is_terminal}
    columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
    with (
        Progress(TextColumn("{task.description}"), *columns, **shown) as progress,
        ProcessPoolExecutor(workers, initializer=begin, initargs=(initializer, initargs)) as processes,
    ):
        bar = progress.add_task(doing, total=len(tasks))
        futures = {processes.submit(work, *arguments): name for name, arguments in tasks.items()}
        open_ones = list(futures)
        try:
            while open_ones:
                running = ", ".join(futures[each] for each in open_ones[: min(workers, SHOWN)])
                progress.update(bar, description=f"{doing} {running}", completed=len(futures) - len(open_ones))
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
