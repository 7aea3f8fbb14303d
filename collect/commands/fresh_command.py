"""The command that collects a full set of logs in its order: fresh."""

import os
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.collect.commands.app import Data, DataDir, Device, app
from moe_replay.collect.datasets import DATASETS
from moe_replay.collect.devices import device_name, pick_device
from moe_replay.collect.fresh.asked import Fresh
from moe_replay.collect.fresh.collectors import parts_of
from moe_replay.collect.fresh.part_runs import run_parts
from moe_replay.collect.fresh.scale import scale_for
from moe_replay.collect.quick.machine import LATER, lacking
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.errors import unknown_name


@app.command("fresh")
def fresh_command(
    out: Annotated[Path, typer.Option(help="Folder of logs.")],
    models: Annotated[Path | None, typer.Option(help="Folder for the trained models; default: beside OUT.")] = None,
    data: Data = "cifar10",
    data_dir: DataDir = None,
    device: Device = "auto",
    listed: Annotated[bool, typer.Option("--list", help="Print the commands and run none.")] = False,
) -> None:
    """Collect a full set of logs: train, record, execute, in full on a GPU, at a smaller scale on a CPU.

    The order of the collectors and what each is asked; the first that fails ends it, with its exit status. What is
    trained is not trained again.

    Example: `python -m collect fresh --data digits --device cpu --out logs`
    """
    if data not in DATASETS:
        raise unknown_name("data set", data, DATASETS)
    check_place(out, [data_dir], folder=True)
    where, folder = pick_device(device), data_dir or os.environ.get("MOE_REPLAY_DATA") or None
    fresh = Fresh(
        scale_for(where.type, data), data, device, device_name(where), out, models or out.parent / f"{out.name}-models",
        data_dir, None if folder is None else Path(folder), plans=not lacking(LATER),
    )  # fmt: skip
    parts = parts_of(fresh)
    if listed:
        for call in (call for part in parts for call in (*part.beside, *part.calls)):
            print(f"python -m {call}")
        return
    raise typer.Exit(run_parts(parts))
