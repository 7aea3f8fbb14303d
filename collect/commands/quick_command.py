"""The command of a quick run: quick."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from moe_replay.collect.commands.app import Device, app
from moe_replay.collect.devices import device_name, pick_device
from moe_replay.collect.quick.journal import Journal
from moe_replay.collect.quick.machine import about_machine, free_bytes, said_of_packages
from moe_replay.collect.quick.plan import TRACES, Place, plan
from moe_replay.collect.quick.running import DONE, Clock, Outcome, keeper, run_steps
from moe_replay.collect.quick.steps import Step, chosen
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, duration_in

NAMES = ("layer costs", "link", "language model", "executions", "dispatch memory", "ports of two GPUs or more")


@app.command("quick")
def quick_command(
    out: Annotated[Path, typer.Option(help="Folder of logs: what is there already is kept, what is missing is made.")],
    minutes: Annotated[
        float, duration_in("min").option(low=0.01, high=1e4, help="Time for all steps; the rest is named.")
    ] = 8,
    steps: Annotated[str | None, typer.Option(help=f"With commas; 1-{len(NAMES)}: {', '.join(NAMES)}.")] = None,
    scale: Annotated[int | None, COUNT.option(low=1, help="Divides all layer widths; default: 1, on a CPU 16.")] = None,
    models: Annotated[Path | None, typer.Option(help="Folder for the trained model; default: beside OUT.")] = None,
    traces: Annotated[Path, typer.Option(help="Folder with the language traces that executions replay.")] = TRACES,
    packed: Annotated[Path | None, typer.Option("--pack", help="Folder for a tar file per step.")] = None,
    device: Device = "auto",
) -> None:
    """Collect logs in minutes: costs, link, a trained model's traces, executions, dispatch memory, ports of many GPUs.

    Each command of a step is a process of its own, so that what fails costs what it makes and nothing else; each is
    ended when the step's share of the time is up. The same command again makes what is missing. Exit status 1: some of
    it is missing, and the table says what.

    Example: `python -m collect quick --device cuda --minutes 8 --out logs --pack packed`
    """
    check_place(out, [traces], folder=True)
    where = pick_device(device)
    name = device_name(where)
    place = Place(
        device, where.type == "cuda", scale or (1 if where.type == "cuda" else 16), minutes, out / name,
        models or out.parent / f"{out.name}-models", traces, torch.cuda.device_count() if where.type == "cuda" else 0,
    )  # fmt: skip
    wanted = chosen(plan(place), steps)
    about = about_machine(where, name)
    out.mkdir(parents=True, exist_ok=True)
    if packed is not None:
        packed.mkdir(parents=True, exist_ok=True)
    clock = Clock(minutes * 60, (packed or out) / "quick.log")
    journal = Journal(out / name / "quick.json", {**about, "provenance": provenance()})
    for line in (*said_of_machine(about, out, place.gpus), *said_of_packages(wanted)):
        clock.say(line)
    outcomes = run_steps(wanted, journal, clock, keeper(out, name, packed, clock))
    say_outcomes(outcomes, clock)
    raise typer.Exit(0 if all(outcome.state == DONE for outcome in outcomes) else 1)


def said_of_machine(about: dict, out: Path, gpus: int) -> list[str]:
    """Return lines about the machine, and which step it has too few GPUs for."""
    told = ", ".join(f"{key} {value}" for key, value in about.items())
    lines = [told, f"{free_bytes(out) / 1e9:.1f} GB free for {out}, {torch.get_num_threads()} threads"]
    return lines if gpus > 1 else [*lines, f"step {len(NAMES)} (ports) is left out: it needs two GPUs, here are {gpus}"]


def say_outcomes(outcomes: list[Outcome], clock: Clock) -> None:
    """Print the table of steps, and what is missing below it."""
    table = Table("step", "name", "state", "seconds", "missing", box=None)
    for outcome in outcomes:
        step: Step = outcome.step
        table.add_row(
            str(step.number), step.name, outcome.state, f"{outcome.seconds:.1f}", str(len(outcome.missing) or "nothing")
        )
    console = Console(width=100)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().rstrip().splitlines():
        clock.say(line.rstrip())
    for outcome in outcomes:
        for line in outcome.missing:
            clock.say(f"missing of step {outcome.step.number}: {line}")
