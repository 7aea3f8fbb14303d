"""The clock over the steps of a quick run: each gets what earlier ones left, and never what later ones are owed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from moe_replay.collect.quick.journal import Journal
from moe_replay.collect.quick.machine import lacking
from moe_replay.collect.quick.packing import pack
from moe_replay.collect.quick.steps import Command, Step
from moe_replay.traces.command_line.child_process import run_until

DONE, FAILED, SKIPPED = "done", "failed", "skipped"


@dataclass
class Outcome:
    """How a step ended, what it took, and what of it is missing and why."""

    step: Step
    state: str
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)


class Clock:
    """Seconds since a quick run began and until it has to end; `say` prints a line with the first of them."""

    def __init__(self, seconds: float, log: Path | None = None) -> None:
        self.began, self.ends, self.log = time.monotonic(), time.monotonic() + seconds, log

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return self.ends - time.monotonic()

    def say(self, line: str) -> None:
        """Print a line behind the seconds that have passed, and append it to the log."""
        line = f"[{time.monotonic() - self.began:6.1f} s] {line}"
        print(line, flush=True)
        if self.log is not None:
            with open(self.log, "a") as opened:
                opened.write(line + "\n")


def run_steps(
    steps: list[Step], journal: Journal, clock: Clock, keep: Callable[[Step], object] = lambda step: None
) -> list[Outcome]:
    """Run the steps in order and return how each ended; `keep(step)` is called behind each, however it ended.

    A step may take what is left, less the shares of later steps that are not done yet.
    """
    outcomes = []
    for at, step in enumerate(steps):
        owed = sum(later.share_s for later in steps[at + 1 :] if not all(map(journal.is_done, later.commands)))
        outcomes.append(run_step(step, journal, clock, owed))
        keep(step)
    return outcomes


def run_step(step: Step, journal: Journal, clock: Clock, owed: float) -> Outcome:
    """Run what is not done of a step, command by command; one that fails leaves the others their chance."""
    began, missing = time.monotonic(), []
    waiting = [command for command in step.commands if not journal.is_done(command)]
    if not waiting:
        clock.say(f"step {step.number} ({step.name}): is there already")
        return Outcome(step, DONE)
    why = reason_against(step, clock)
    if why:
        clock.say(f"step {step.number} ({step.name}) is skipped: {why}")
        return Outcome(step, SKIPPED, 0.0, [f"{names_of(command)}: {why}" for command in waiting])
    ends = clock.ends - min(owed, max(clock.left_s - step.least_s, 0.0))
    clock.say(f"step {step.number} ({step.name}): {ends - began:.0f} s at most")
    for command in waiting:
        why = run_command(command, journal, clock, ends)
        if why:
            clock.say(f"{names_of(command)}: {why}")
            missing.append(f"{names_of(command)}: {why}")
    return Outcome(step, FAILED if missing else DONE, time.monotonic() - began, missing)


def reason_against(step: Step, clock: Clock) -> str:
    """Return why a step is not begun, empty where it is."""
    absent = lacking(step.packages)
    if absent:
        return f"this Python lacks {', '.join(absent)}"
    if clock.left_s < step.least_s:
        return f"{max(clock.left_s, 0):.0f} s are left, it needs {step.least_s:.0f}"
    return ""


def run_command(command: Command, journal: Journal, clock: Clock, ends: float) -> str:
    """Run one command until `ends` at most; return why what it makes is missing, empty where it is not."""
    absent = [str(path) for path in command.wants if not path.exists()]
    began = time.monotonic()
    if absent:
        return f"needs {', '.join(absent)}, which is missing"
    if began >= ends:
        return "the step's time was up"
    status = run_until(command.words, ends - began, clock.say)
    if status is None:
        return f"was stopped after {time.monotonic() - began:.0f} s, the step's time was up"
    if status:
        return f"the command ended with {f'signal {-status}' if status < 0 else f'status {status}'}"
    if not all(path.exists() for path in command.makes):
        return "the command ended well and made nothing"
    journal.note(command, time.monotonic() - began)
    return ""


def names_of(command: Command) -> str:
    """Return what a command makes, as a table names it."""
    return ", ".join(path.name for path in command.makes)


def keeper(logs: Path, device: str, folder: Path | None, clock: Clock) -> Callable[[Step], object]:
    """Return what packs a step's logs into a folder; a disk that is full costs the pack, not the run."""

    def keep(step: Step) -> None:
        if folder is None:
            return
        try:
            pack(step, logs, device, folder, clock.say)
        except OSError as error:
            clock.say(f"step {step.number} ({step.name}) is not packed: {error.strerror or error}")

    return keep
