"""`python -m simulate logs`: parses, runs what the logs ask for side by side, shows what was said."""

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.sweeps.log_questions import questions_of
from moe_replay.traces.command_line.child_process import stage_words
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.command_line.side_by_side import side_by_side
from moe_replay.traces.command_line.units import COUNT

PROGRESS = "simulating"  # how lines of progress begin


def logs_command(
    logs: Annotated[Path, typer.Argument(metavar="LOGS", help="Folder of sets: LOGS/DEVICE/DATA.")],
    out: Annotated[Path, typer.Option(help="Folder for OUT/DEVICE/DATA; what is complete there is kept.")],
    replications: Annotated[int, COUNT.option(low=0, help="Seeds 0..n-1 of every configuration besides.")] = 20,
    jobs: Annotated[int, COUNT.option(low=0, help="Simulations side by side; 0 is one per core.")] = 0,
    listed: Annotated[bool, typer.Option("--list", help="Print the commands and run none.")] = False,
) -> None:
    """Simulate what a folder of logs asks for: all executed runs of every set, with and without expert memory.

    Every simulation is a command and a process of its own; one that fails leaves the others their chance. Exit status
    1: some failed.

    Example: `python -m simulate logs traces/data --replications 20 --out simulated`
    """
    check_place(out, [logs], folder=True)
    asked = questions_of(logs, out, replications)
    if listed:
        for each in asked:
            print(shlex.join(("python", "-m", "simulate", *each.words)))
        return
    many = f"{replications} replications of every configuration"
    print(f"== simulate: {len(asked)} questions side by side, {many}", flush=True)
    failed = 0
    commands, names = [(*stage_words("simulate"), *each.words) for each in asked], [each.text for each in asked]
    answers = side_by_side(commands, jobs or os.cpu_count() or 1, "simulating", names)
    for each, (status, lines) in zip(asked, answers, strict=True):
        print(f"== simulate: {each.text}")
        for line in lines:
            if not line.startswith(PROGRESS):
                print(line, flush=True)
        failed += status != 0
    raise typer.Exit(1 if failed else 0)
