"""The command that executes exchanges between devices and fits their link: ports."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from moe_replay.collect.commands.app import Device, Force, app
from moe_replay.collect.devices import device_name, pick_device
from moe_replay.collect.ports.exchange_ways import ON_CPU, ON_GPUS, RATE, WAYS, ways_named
from moe_replay.collect.ports.port_study import PortPlan, measure_ports
from moe_replay.traces.clusters.link_file import LinkFile, write_links
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, check_place, is_made, is_same, staged
from moe_replay.traces.command_line.provenance import FORCE, provenance
from moe_replay.traces.command_line.units import BANDWIDTH, COUNT, SIZE
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import save_mixed
from moe_replay.traces.runs.port_log import KIND, load_port_log

MOST_DEVICES, MOST_BYTES, MOST_TIMES = 64, 1 << 33, 10_000
DEFAULT_DEVICES = (2, 4)


@dataclass(frozen=True)
class ExchangeOptions:
    """Which exchanges are executed, and how."""

    devices: Annotated[
        str | None, typer.Option(help="Numbers of devices, with commas; default 2,4, at most as many as GPUs.")
    ] = None
    way: Annotated[
        str | None,
        typer.Option(help=f"{', '.join(WAYS)}; with commas; default: nccl, or without two GPUs the first three."),
    ] = None
    bandwidth: Annotated[
        float, BANDWIDTH.option(low=1e3, high=1e12, help="Of a paced port.", show_default="20MB/s")
    ] = RATE
    message: Annotated[
        int | None,
        SIZE.option(low=1000, high=MOST_BYTES, help="Mean message of a balanced exchange; default: the way's."),
    ] = None
    repetitions: Annotated[int, COUNT.option(low=1, high=MOST_TIMES, help="Of every exchange.")] = 5
    seed: Annotated[int, COUNT.option(low=0)] = 0

    def plan(self, gpus: int) -> PortPlan:
        """Return what is executed on a machine with so many GPUs; InputError for what it cannot."""
        names = self.way.split(",") if self.way else list(ON_GPUS if gpus > 1 else ON_CPU)
        ways = ways_named(names, self.bandwidth, self.message)
        on_gpus = any(way.name in ON_GPUS for way in ways)
        if on_gpus and gpus < 2:
            raise InputError(
                f"--way nccl: this machine has {gpus} GPUs, needed: 2; allowed here: {', '.join(ON_CPU)}, gloo"
            )
        most = min(gpus, MOST_DEVICES) if on_gpus else MOST_DEVICES
        default = ",".join(str(each) for each in DEFAULT_DEVICES if each <= most)
        devices = tuple(dict.fromkeys(command.numbers(self.devices or default, "--devices", 2)))
        if max(devices) > most:
            raise InputError(f"--devices: {max(devices)} is not allowed; allowed here: 2..{most}, with commas")
        return PortPlan(tuple(ways), devices, self.repetitions, self.seed)


@app.command("ports")
@grouped
def ports_command(
    out: Annotated[Path, typer.Option(help="Table of all messages; its header holds the fitted links.")],
    asked: ExchangeOptions,
    links_out: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Link file of the first way, for `simulate run --links`.")
    ] = None,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Execute exchanges between devices, from balanced to all-to-one, and fit the latency and bandwidth of their ports.

    A device is a process with a socket to every other one, whose sender and receiver keep a pace that the processor can
    hold; or, with nccl, a GPU. The link is fitted to exchanges that are not among the 16 that it is checked on:
    `simulate all-to-all` predicts those, and the figure `all_to_all` compares.

    Example: `python -m collect ports --devices 2,4 --bandwidth 20MB/s --out ports.parquet --links-out mine.toml`
    """
    where = pick_device(device)
    plan = asked.plan(torch.cuda.device_count() if where.type == "cuda" else 0)
    check_links_out(links_out, out)
    if not is_made(out, [], force):
        check_output(links_out, [], force)
        if links_out is not None and links_out.exists() and not force:
            raise InputError(f"{links_out}: exists, allowed: {FORCE} to replace it, or another place")
        gpus = any(way.name in ON_GPUS for way in plan.ways)
        name = device_name(where if gpus else torch.device("cpu"))
        with Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), transient=True) as progress:
            bar = progress.add_task("exchanges", total=plan.count)
            table, header = measure_ports(plan, lambda said: progress.update(bar, advance=1, description=said))
        about = {"device": name, "devices": list(plan.devices), "repetitions": plan.repetitions, **header}
        save_mixed(out, table, {**about, "provenance": provenance(plan.seed)}, KIND)
        print(f"{out}: {len(table)} messages of {plan.count} exchanges")
    say_links(out, links_out, force)


def check_links_out(links_out: Path | None, out: Path) -> None:
    """Refuse a link file that would not be taken for one, or that is the table."""
    if links_out is None:
        return
    if links_out.suffix != ".toml":
        raise InputError(f"--links-out: {links_out.name!r} is not allowed; allowed: a name that ends in .toml")
    check_place(links_out)
    if is_same(links_out, out):
        raise InputError(f"--links-out: {links_out} is --out too; allowed: another place")


def say_links(out: Path, links_out: Path | None, force: bool) -> None:
    """Say what links a table holds, and write the first of them where asked."""
    header = load_port_log(out)[1]
    for link in header["links"]:
        print(
            f"{link['way']}: {link['bytes_per_s'] / 1e6:,.6g} MB/s, {link['latency_ns'] / 1e3:,.5g} us"
            f" (mean error of {link['exchanges']} calibration exchanges {link['error_percent']:.2f} %)"
        )
    if links_out is not None and header["links"]:
        with staged(links_out, [out], force) as written:
            write_links(written, link_file_of(header))
        print(f"{links_out}: the link of {header['links'][0]['way']}")


def link_file_of(header: dict) -> LinkFile:
    """Return the first link of a table as that of a machine; between nodes, of which it had one, the same."""
    link = header["links"][0]
    numbers = link["latency_ns"], link["bytes_per_s"]
    source = (
        f"fitted by collect ports to {link['exchanges']} exchanges on {header['device']},"
        f" {header['ways'][link['way']]['meaning']}; [network] repeats [inside]: all devices were in one machine"
    )
    return LinkFile(*numbers, *numbers, source=source)
