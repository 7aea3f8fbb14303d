"""What was measured, by file or by name: `--costs`, `--link`, and the command that lists the names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.table import Table

from moe_replay.simulate.config.costs import CostModel
from moe_replay.traces.clusters.link_file import read_links, shipped_machines
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.units import BANDWIDTH, time_in
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import mixed_header
from moe_replay.traces.glossary.lookup import titles
from moe_replay.traces.runs.cost_table import load_costs
from moe_replay.traces.runs.link_table import links_in, one_at_a_time
from moe_replay.traces.served_layers.served_times import load_served
from moe_replay.traces.shipped import found_by_name, shipped_costs, shipped_links, shipped_served

BYTES_PER_S, LATENCY_NS = 16e9, 10_000  # of a link that nobody named, the second beside the bytes
OF_COSTS = titles(("name", "experts", "k", "width", "hidden", "dtype", "tokens"))
OF_SERVED = titles(("name", "experts", "k", "width", "hidden", "dtype", "devices"))
OF_MACHINES = titles(("name", "inside_gigabytes_per_s", "inside_us", "network_gigabytes_per_s", "network_us", "nics"))
OF_LINKS = titles(("name", "host_memory", "copies", "gigabytes_per_s", "latency_us"))


def costs_by_name(value: Path | None) -> Path | None:
    """Return the cost table (or folder of them) that an option names; say what a table of layers leaves out."""
    if value is None:
        return None
    path = found_by_name(value, "cost table", shipped_costs())
    header = mixed_header(path, "costs") if path.is_file() else {}
    if "dense" in header:
        name, how = header["model"]["name"], header.get("measured", "as its header says")
        print(f"costs of {name} on {header['device']}, {how}; dense blocks: {header['dense']}")
    return path


Link = Annotated[
    Path | None, typer.Option(metavar="NAME|FILE", help="A measured link, in place of --bandwidth and --latency.")
]
Bandwidth = Annotated[
    str | None,
    typer.Option(
        help=f"Of the link to a device; default {BYTES_PER_S / 1e9:g}GB/s. Without a unit: GB/s. Several with commas."
    ),
]
Latency = Annotated[
    str | None,
    typer.Option(
        help=f"Of one transfer, beside its bytes; default {LATENCY_NS / 1e3:g}us. Without a unit: us. Several: commas."
    ),
]


@dataclass(frozen=True)
class LinkOptions:
    """What it takes to bring an expert to a device: a measured link, or every combination of two numbers."""

    link: Link = None
    bandwidth: Bandwidth = None
    latency: Latency = None

    def each(self) -> list[dict]:
        """Return the fields of a memory that each link gives; InputError for a measured one and numbers besides."""
        bandwidths = BANDWIDTH.listed(self.bandwidth, "--bandwidth", 1) if self.bandwidth else [None]
        latencies = time_in("us").listed(self.latency, "--latency", 0) if self.latency else [None]
        return [link_fields(self.link, *numbers) for numbers in product(bandwidths, latencies)]


def link_fields(link: Path | None, bytes_per_s: float | None, latency_ns: int | None) -> dict:
    """Return the fields of a memory that say what a transfer takes; InputError for a link and numbers besides."""
    if link is None:
        return {
            "link_latency_ns": LATENCY_NS if latency_ns is None else latency_ns,
            "link_bytes_per_s": BYTES_PER_S if bytes_per_s is None else bytes_per_s,
        }
    if bytes_per_s is not None or latency_ns is not None:
        raise InputError("--link: allowed without --bandwidth and --latency, which it measured")
    measured = one_at_a_time(found_by_name(link, "link", shipped_links()))
    return {"link_latency_ns": measured.latency_ns, "link_bytes_per_s": measured.bytes_per_s}


def costs_command() -> None:
    """Show the cost tables and links that come with the project, by the names that options take.

    Example: `python -m simulate costs`
    """
    rows = []
    for name, path in shipped_costs().items():
        table = load_costs(path)
        model, tokens = table.header["model"], table.columns["tokens"]
        sizes = f"{tokens.min():,}..{tokens.max():,}"
        rows.append([name, *(str(model[field]) for field in ("experts", "k", "width", "hidden", "dtype")), sizes])
    show("cost tables, --costs NAME: one layer, any number of them", OF_COSTS.values(), rows)
    rows = [
        [name, link.host_memory, str(link.copies), f"{link.bytes_per_s / 1e9:.1f}", f"{link.latency_ns / 1e3:.1f}"]
        for name, path in shipped_links().items() for link in links_in(path)[0]
    ]  # fmt: skip
    show("links, --link NAME: pinned memory (on a CPU: host), one stream", OF_LINKS.values(), rows)
    show_machines()
    rows = [
        [name, *(str(model[field]) for field in ("experts", "k", "width", "hidden", "dtype")), devices]
        for name, model, devices in served_layers()
    ]  # fmt: skip
    show("served layers, simulate skew NAME: measured by others", OF_SERVED.values(), rows)


def served_layers() -> Iterator[tuple[str, dict, str]]:
    """Yield (name, model, on how many devices) of every served layer."""
    for name, path in shipped_served().items():
        found = load_served(path)
        yield name, found.header["model"], " ".join(map(str, found.devices))


def show_machines() -> None:
    """Print the machines whose links between devices have a name."""
    rows = []
    for name, path in shipped_machines().items():
        found = read_links(path)
        rates = [f"{rate / 1e9:g}" for rate in (found.inside_bytes_per_s, found.network_bytes_per_s)]
        times = [f"{ns / 1e3:g}" for ns in (found.inside_latency_ns, found.network_latency_ns)]
        rows.append([name, rates[0], times[0], rates[1], times[1], str(found.nics or "one a device")])
    show("machines, --links NAME: a device's port inside its node, and a network port", OF_MACHINES.values(), rows)


def show(title: str, columns: object, rows: list[list[str]]) -> None:
    """Print one table, or that there is nothing to show."""
    if not rows:
        print(f"{title}: none is shipped")
        return
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for row in rows:
        table.add_row(*row)
    print_table(table)


def bytes_of_expert(given: int | None, costs: CostModel, of_model: int | None) -> int:
    """Return the bytes of one expert: given, or as the cost table, or else the trace's model says.

    InputError where none does.
    """
    measured = costs.table.header.get("expert_bytes") if costs.table is not None else None
    found = given or measured or of_model
    if found is None:
        raise InputError("the trace does not say how many bytes an expert has; allowed: --expert-bytes N")
    return found
