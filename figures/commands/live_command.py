"""`figures live`: a page on which sliders ask the simulator."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.units import BANDWIDTH, COUNT, SIZE, time_in
from moe_replay.traces.errors import InputError

GET_IT = "pip install 'moe-replay[report]'"


@dataclass(frozen=True)
class CostOptions:
    """What batches cost, and what it takes to bring an expert to the device."""

    costs: Annotated[
        str | None, typer.Option(metavar="FILE|NAME", help="A measured cost table (`simulate costs` has names).")
    ] = None
    affine: Annotated[str | None, typer.Option(metavar="A,B", help="Instead: A + B n ns for every batch of n.")] = None
    expert_bytes: Annotated[
        int | None, SIZE.option(low=1, help="Of one expert; default: what the cost table, or else the trace says.")
    ] = None
    bandwidth: Annotated[float | None, BANDWIDTH.option(low=1, help="Of the link to a device; default 16GB/s.")] = None
    latency: Annotated[int | None, time_in("us").option(low=0, help="Of one transfer; default 10us.")] = None

    @property
    def link(self) -> dict:
        """The axes of an expert memory that were given."""
        found = {
            "link_bytes_per_s": self.bandwidth, "link_latency_ns": self.latency, "expert_bytes": self.expert_bytes
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class BesideOptions:
    """What is shown beside the trace, and where."""

    beside: Annotated[
        Path | None, typer.Option(metavar="TRACE2", help="Another trace, whose routing is shown too.")
    ] = None
    quality: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="What lost gate mass costs (`collect swap-quality`).")
    ] = None
    executed: Annotated[
        Path | None, typer.Option(metavar="TABLES", help="Tables of `analysis tables`, instead of the shipped ones.")
    ] = None
    seeds: Annotated[int, COUNT.option(low=1, help="Of an exact answer; 2 and more give intervals.")] = 5
    port: Annotated[int, COUNT.option(low=0, high=65535, help="Of this machine's loopback; 0: one that is free.")] = 0


@grouped
def live(
    trace: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace.")], cost: CostOptions, shown: BesideOptions
) -> None:
    """Serve a page to this machine alone, on which sliders ask the simulator; Ctrl-C ends it.

    Five questions: what should I set, how much memory do I need, where does the time go, is my routing skewed, may I
    believe it? While a slider moves, a part of the trace is simulated, and all of it with intervals when it is let go.

    Example: `python -m figures live toy.trace.parquet --affine 200000,20000 --expert-bytes 4MB`
    """
    try:
        from moe_replay.figures.live.choice import Source
        from moe_replay.figures.live.page_server import serve
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "bokeh":
            raise
        raise InputError(f"live needs bokeh, which is not here; allowed: {GET_IT}") from None
    if cost.costs is not None and cost.affine is not None:
        raise InputError("--costs and --affine: costs come from one of them, allowed: either")
    beside = {"seeds": shown.seeds, "beside": shown.beside, "quality": shown.quality, "executed": shown.executed}
    serve(Source(trace, cost.costs, cost.affine, cost.link, **beside), shown.port)
