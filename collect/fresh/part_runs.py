"""The parts of a fresh set of logs, run: one call after another, and beside them what may take the other core."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from concurrent.futures import Future

from moe_replay.collect.fresh.asked import Call, Part
from moe_replay.traces.command_line.child_process import die_with_parent, stage_words
from moe_replay.traces.command_line.side_by_side import Beside


def run_parts(parts: Sequence[Part]) -> int:
    """Run the parts in order; return 0, or the exit status of the first call that fails: nothing follows it."""
    for part in parts:
        if part.said:
            print(f"== collect {part.said}", flush=True)
        if status := run_part(part):
            return status
    return 0


def run_part(part: Part) -> int:
    """Run the calls of a part, and on the other core those beside it, whose lines are shown when they have ended."""
    with Beside() as beside:
        other = beside.pool.submit(beside.run, [program(call) for call in part.beside])
        for call in part.calls:
            if status := run_call(call):
                beside.stop()
                return status
        return joined(other)


def run_call(call: Call) -> int:
    """Run a call in this terminal; a file that it makes counts more than its exit status, and is made once."""
    if call.makes is not None and call.makes.exists():
        return 0
    with subprocess.Popen(program(call), preexec_fn=die_with_parent) as process:
        status = process.wait()
    return 0 if call.makes is not None and call.makes.exists() else status


def program(call: Call) -> tuple[str, ...]:
    """Return the whole argument vector of a call."""
    return (*stage_words(call.stage), *call.vector())


def joined(other: Future[tuple[int, list[str]]]) -> int:
    """Wait for what runs beside, show what it said and return its status."""
    status, lines = other.result()
    for line in lines:
        print(line, flush=True)
    return status
