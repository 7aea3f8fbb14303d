"""`python -m simulate timeline`: parses, reads, calls, writes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.units import time_in
from moe_replay.traces.errors import InputError
from moe_replay.traces.runs.run_records import RunRecords, load_run, run_names

Runs = Annotated[
    list[Path], typer.Argument(metavar="RUN...", help="Folders of one run each, or FOLDER/NAME of one of several runs.")
]
From = Annotated[int, time_in("ms").option("--from", low=0, help="Leave out what ended before.")]
To = Annotated[int | None, time_in("ms").option("--to", low=0, help="Leave out what begins later.")]


def timeline_command(
    runs: Runs,
    out: Annotated[Path, typer.Option(help="Perfetto file to write, such as run.pftrace.")],
    first_ns: From = 0,
    last_ns: To = None,
    force: Force = False,
) -> None:
    """Write what devices, links and queues did as a timeline for https://ui.perfetto.dev, which reads it locally.

    Several runs, such as the executed and the simulated one of a configuration, are groups of tracks in one file.

    Example: `python -m simulate timeline runs --from 10ms --to 20ms --out run.pftrace`
    """
    from moe_replay.simulate.timeline.run_timeline import FOREVER, run_timeline

    try:
        from moe_replay.simulate.timeline.perfetto_file import write_timeline
    except ModuleNotFoundError as error:
        raise InputError(f"timelines need {error.name}: `pip install 'moe-replay[timeline]'`") from None
    if last_ns is not None and last_ns < first_ns:
        raise InputError(f"--to is {last_ns} ns, before --from ({first_ns} ns)")
    check_output(out, runs, force)
    found = [load_named(path) for path in runs]
    shown = [
        run_timeline(
            records, f"{records.header.get('source', 'run')}: {name}", first_ns, FOREVER if last_ns is None else last_ns
        )
        for name, records in found
    ]
    with staged(out, runs, force) as written, Progress(transient=True) as progress, written.open("wb") as opened:
        task = progress.add_task("writing", total=sum(run.events for run in shown))
        write_timeline(opened, shown, lambda many: progress.advance(task, many))
    for run in shown:
        print(f"{run.name}: {run.slices:,} slices on {len(run.tracks)} tracks, {len(run.counters)} counters")
        if run.flows.not_joined:
            print(
                f"  {run.flows.not_joined:,} passes lack an arrow: several batches, or none, may be their first or last"
            )
    if len({repr(records.header.get("config")) for _, records in found}) > 1:
        print("these runs have different configurations")


def load_named(path: Path) -> tuple[str, RunRecords]:
    """Return (name, records) of the run that a path names; InputError where it names none, or several."""
    if not path.is_dir():
        return path.name, load_run(path.parent, path.name)
    names = run_names(path)
    if len(names) != 1:
        some = f"{len(names)} runs, allowed FOLDER/NAME of one: {', '.join(names[:5])}" if names else "no run"
        raise InputError(f"{path}: holds {some}{', ...' if len(names) > 5 else ''}")
    return names[0], load_run(path, names[0])
