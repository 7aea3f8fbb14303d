"""Runs builds of tables side by side, in as many processes as there are cores."""

import multiprocessing
import os
from pathlib import Path

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.table_builds import BUILDS
from moe_replay.analysis.written_tables import take_turns
from moe_replay.traces.command_line.in_processes import in_processes

SAME_RUNS = ("queue_size", "fidelity")  # they stay together, so that each run is read once
LONGEST = ("delta_k", SAME_RUNS[0], "miss_ratio", "locality", "open_loop")  # first, so that nobody waits for the last


def build_all(names: list[str], inputs: Inputs, out: Path) -> list[str]:
    """Write the tables and claims of these builds; return the holes in them, each with its build's name."""
    tasks = tasks_of(names)
    workers = min(len(tasks), os.cpu_count() or 1)
    if workers < 2:
        found = [build_each(task, inputs, out) for task in tasks]
    else:
        lock = multiprocessing.Lock()
        named = {" and ".join(task): (task, inputs, out) for task in tasks}
        found = list(in_processes(build_each, named, workers, "making", take_turns, (lock,)).values())
    holes = {name: lines for each in found for name, lines in each.items()}
    return [f"{name}: {hole}" for name in dict.fromkeys(names) for hole in holes[name]]


def tasks_of(names: list[str]) -> list[list[str]]:
    """Return the builds to run one after another in one process, the longest tasks first."""
    names = sorted(dict.fromkeys(names), key=lambda name: LONGEST.index(name) if name in LONGEST else len(LONGEST))
    together = [name for name in SAME_RUNS if name in names]
    return [together if name in together[:1] else [name] for name in names if name not in together[1:]]


def build_each(names: list[str], inputs: Inputs, out: Path) -> dict[str, list[str]]:
    """Run some builds in turn and return the holes of each, none of them twice."""
    return {name: list(dict.fromkeys(BUILDS[name](inputs, out))) for name in names}
