"""A bar for tasks side by side: what runs, how far, how long yet."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SHOWN = 3  # names of what runs
WIDEST = 60  # characters of all that runs


class TaskBar:
    """A bar on stderr, gone at its end; where that is no terminal, nothing is shown. Used with `with`.

    What is printed meanwhile appears above it, and stays on stdout where that is a file.
    """

    def __init__(self, doing: str, total: int) -> None:
        console = Console(stderr=True)
        columns = (BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        self.doing, self.progress = doing, Progress(
            TextColumn("{task.description}"), *columns, console=console, transient=True,
            disable=not console.is_terminal, redirect_stdout=sys.stdout.isatty(),
        )  # fmt: skip
        self.bar = self.progress.add_task(doing, total=total)

    def __enter__(self) -> TaskBar:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def show(self, done: int, running: Sequence[str]) -> None:
        """Show how many are done and what runs."""
        names = ", ".join(running[:SHOWN])
        names = names if len(names) <= WIDEST else f"{names[: WIDEST - 3]}..."
        self.progress.update(self.bar, description=f"{self.doing} {names}", completed=done)
