"""A command as a process of its own: its lines passed on, its end in time enforced, none left when this one dies."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

GRACE_S = 3.0  # between asking a process to end and ending it
DIES_WITH_PARENT = 1  # Linux's PR_SET_PDEATHSIG


class Watch(Protocol):
    """What knows the processes that run: a set of them, or one that may end them."""

    def add(self, process: subprocess.Popen, /) -> object:
        """Take a process in that has begun."""

    def discard(self, process: subprocess.Popen, /) -> object:
        """Forget a process that has ended."""


def stage_words(stage: str) -> tuple[str, ...]:
    """Return the words with which this Python runs a stage, from a checkout as from an installation."""
    return (sys.executable, "-m", f"moe_replay.{stage}")


def run_until(
    words: Sequence[str], seconds: float | None, say: Callable[[str], object],
    watch: Watch | None = None,
) -> int | None:  # fmt: skip
    """Run a program and pass its lines to `say`; return its exit status, None where it was ended after `seconds`.

    A program that cannot be started counts as one that failed with status 127. Its whole session ends with it, and,
    on Linux, with the thread that called this, however that ends. `seconds` None lets it take its time; `watch` knows
    it meanwhile, for others to `end` it.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"}
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
            text=True, errors="replace", start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
    except OSError as error:
        say(f"{words[0]}: cannot be started ({error.strerror})")
        return 127
    watch = set() if watch is None else watch
    watch.add(process)
    reader = threading.Thread(target=pass_on, args=(process.stdout, say), daemon=True)
    reader.start()
    try:
        return process.wait(None if seconds is None else max(seconds, 0.0))
    except subprocess.TimeoutExpired:
        return None
    finally:
        watch.discard(process)
        end(process)
        reader.join(GRACE_S)


def die_with_parent() -> None:
    """Ask Linux to end this process when the one that started it has died; elsewhere nothing is asked."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(DIES_WITH_PARENT, signal.SIGKILL)


def pass_on(lines: object, say: Callable[[str], object]) -> None:
    """Say every line of a stream until it ends."""
    with contextlib.suppress(ValueError, OSError):
        for line in lines:
            if line.strip():
                say(line.rstrip())


def end(process: subprocess.Popen) -> None:
    """Ask the session of a process to end, and end it where it has not after a moment."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(OSError):
            os.killpg(process.pid, sent)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
