"""Commands side by side, each a process of its own: what each says comes whole, in the order asked."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

from moe_replay.traces.command_line.child_process import end, run_until

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


def side_by_side(commands: Sequence[Sequence[str]], at_once: int) -> Iterator[tuple[int, list[str]]]:
    """Run commands, so many at once; yield (exit status, lines) of each in order as soon as it is there."""
    with Beside(at_once) as beside:
        yield from beside.pool.map(beside.run, [[words] for words in commands])
