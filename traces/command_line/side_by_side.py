"""Commands side by side, each a process of its own: what each says comes whole, in the order asked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from moe_replay.traces.command_line.child_process import end, run_until
from moe_replay.traces.command_line.task_bar import TaskBar

STOPPED = 130  # the status of what was not begun, or ended, because others are not waited for


class Beside:
    """Commands that run while this process goes on: one after another, none behind one that failed.

    Used with `with`: leaving it by an exception ends what runs. It watches its processes (`child_process.Watch`): one
    that begins while others are being stopped ends at once.
    """

    def __init__(self, at_once: int = 1) -> None:
        self.pool, self.lock, self.stopped = ThreadPoolExecutor(at_once), Lock(), False
        self.running: set[subprocess.Popen] = set()

    def __enter__(self) -> Beside:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is not None:
            self.stop()
        self.pool.shutdown()

    def add(self, process: subprocess.Popen) -> None:
        """Take a process in that has begun; end it where nothing is to run any more."""
        with self.lock:
            self.running.add(process)
            stopped = self.stopped
        if stopped:
            end(process)

    def discard(self, process: subprocess.Popen) -> None:
        """Forget a process that has ended."""
        with self.lock:
            self.running.discard(process)

    def stop(self) -> None:
        """End what runs and begin nothing more."""
        with self.lock:
            self.stopped, running = True, list(self.running)
        for process in running:
            end(process)

    def run(self, commands: Sequence[Sequence[str]]) -> tuple[int, list[str]]:
        """Return the exit status of the first command that fails, else 0, and what all of them said."""
        lines: list[str] = []
        for words in commands:
            if self.stopped:
                return STOPPED, lines
            if status := run_until(words, None, lines.append, self):
                return status, lines
        return 0, lines


def side_by_side(
    commands: Sequence[Sequence[str]], at_once: int, doing: str = "running", names: Sequence[str] = ()
) -> Iterator[tuple[int, list[str]]]:
    """Run commands, so many at once; yield (exit status, lines) of each in order as soon as it is there.

    A bar on a terminal shows what runs, by `names` (of each command; nothing: its number), and how far all are.
    """
    names = names or [str(number) for number in range(1, len(commands) + 1)]
    with TaskBar(doing, len(commands)) as bar, Beside(at_once) as beside:
        futures = [beside.pool.submit(beside.run, [words]) for words in commands]

        def show(*_: object) -> None:
            open_ones = [name for name, each in zip(names, futures, strict=True) if not each.done()]
            bar.show(len(futures) - len(open_ones), open_ones[:at_once])

        show()
        for each in futures:
            each.add_done_callback(show)
        for each in futures:
            yield each.result()
