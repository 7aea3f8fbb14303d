"""`python -m simulate pools`: parses, reads, calls, writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import BANDWIDTH, COUNT, SIZE
from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.lookup import title
from moe_replay.traces.load_trace import LoadTrace, read_loads

SHOWN = (
    "data", "tensor", "pipeline", "expert_ranks", "slots_per_layer", "slots_per_device", "log10_placements",
    "expert_memory_bytes", "fits", "exchange_ms", "balanced_ms", "bounded_ms", "contiguous_ms", "lpt_ms",
)  # fmt: skip
FEW = 12  # pools that are printed


@dataclass(frozen=True)
class MachineOptions:
    """The machine, and what a step is."""

    devices: Annotated[int, COUNT.option(low=1, help="Devices.")] = 16
    memory: Annotated[float | None, SIZE.option(low=1, help="What experts may take on a device.")] = None
    flops: Annotated[float, typer.Option(min=1, help="FLOP/s of a device.")] = 112e12
    bandwidth: Annotated[float, BANDWIDTH.option(low=1, help="Of a device's port.")] = 8e9
    micro_batches: Annotated[int, COUNT.option(low=1, help="Micro-batches of a step.")] = 4
    capacity: Annotated[float | None, typer.Option(min=1e-9, help="Capacity factor of the gate; default: none.")] = None


@dataclass(frozen=True)
class WidthOptions:
    """Sizes of an expert that a load trace may not tell."""

    width: Annotated[int | None, COUNT.option(low=1, help="Width of a token; default: the trace's.")] = None
    hidden: Annotated[int | None, COUNT.option(low=1, help="Hidden units of an expert; default: the trace's.")] = None
    expert_bytes: Annotated[int | None, SIZE.option(low=1, help="Of one expert; default: two bf16 matrices.")] = None


@grouped
def pools_command(
    loads_path: Annotated[Path, typer.Argument(metavar="LOADS", help="A load trace: sizes of the model, loads.")],
    machine: MachineOptions, sizes: WidthOptions,
    out: Annotated[Path | None, typer.Option(help="Table of all pools, CSV; OUT.json beside it.")] = None,
    force: Force = False,
) -> None:  # fmt: skip
    """Compare SmartMoE's static pools: shapes of data, tensor, pipeline and expert parallelism, by bounded loads.

    A pool's placements can follow each other without new allocations. MoE layers are modelled as SmartMoE does,
    all-reduces as rings; attention, activations and optimiser states are not.

    Example: `python -m simulate pools training.loads.parquet --devices 16 --capacity 1.2 --width 1536 --hidden 3072`
    """
    from moe_replay.simulate.planning.static_pools import PoolWorld, pools

    check_output(out, [loads_path], force)
    loads = read_loads(loads_path)
    load_SLE = loads.load_SRMLE[loads.used_S].sum((1, 2))[:, :, : loads.model.real_experts]
    if not load_SLE.size:
        raise InputError(f"{loads_path}: holds no selections, allowed: some in one iteration at least")
    width, hidden = (known(name, getattr(sizes, name), of) for name, of in
                     (("width", loads.model.d_model), ("hidden", loads.model.d_ff)))  # fmt: skip
    world = PoolWorld(
        machine.devices, load_SLE.shape[2], load_SLE.shape[1], loads.model.used_k, tokens_of(loads), width, hidden,
        sizes.expert_bytes or 4 * width * hidden, machine.micro_batches, machine.capacity, machine.memory,
        machine.flops, machine.bandwidth,
    )  # fmt: skip
    rows = pools(world, load_SLE)
    if out is not None:
        with staged(out, [loads_path], force) as written:
            write_rows(written, rows)
            write_json(written.with_suffix(".json"), {"inputs": {"loads": loads.digest}, "provenance": provenance()})
    show(rows)


def known(name: str, given: int | None, recorded: int | None) -> int:
    """Return a size as given, else as recorded; InputError where it is neither."""
    if given is None and recorded is None:
        raise InputError(f"--{name}: the load trace does not tell it; allowed: a number")
    return given or recorded


def tokens_of(loads: LoadTrace) -> float:
    """Return the tokens of a micro-batch over all ranks, in the mean."""
    microbatches = loads.load_SRMLE.shape[2]
    per_layer = loads.load_SRMLE[loads.used_S].sum((1, 2, 4)).mean() / microbatches
    return float(per_layer) / loads.model.used_k


def show(rows: list[dict]) -> None:
    """Print the first pools."""
    table = Table(*(title(name) for name in SHOWN), box=None)
    for row in rows[:FEW]:
        table.add_row(*(f"{row[name]:,.4g}" if isinstance(row[name], float) else str(row[name]) for name in SHOWN))
    print_table(table)
    print(f"{len(rows)} pools" + (f", the first {FEW} of them shown" if len(rows) > FEW else ""))
