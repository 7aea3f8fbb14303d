"""`python -m simulate compose`: recorded sequences as the steps that a serving engine would make of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import Progress
from rich.table import Table

from moe_replay.simulate.commands import options
from moe_replay.simulate.config.cluster_options import ClusterOptions
from moe_replay.simulate.config.costs import CostModel
from moe_replay.simulate.serving.composition import ARRIVALS, Demand, Engine, asked_of, composed
from moe_replay.simulate.serving.request_rows import Served, serve
from moe_replay.simulate.serving.serving_system import POOLS, System
from moe_replay.traces.command_line.command import Force, listed, seeds
from moe_replay.traces.command_line.files import write_json, write_rows
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.printed_tables import print_table
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT, SIZE
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.glossary.lookup import title
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.routes import uncomputed
from moe_replay.traces.runs.request_table import by_rate, speeds_by_rate
from moe_replay.traces.runs.time_statistics import TPOT, TTFT
from moe_replay.traces.selections import Trace

PRINTED = (*TTFT, *TPOT, "requests_per_s", "output_tokens_per_s")


@dataclass(frozen=True)
class EngineOptions:
    """The serving engine."""

    token_budget: Annotated[int, COUNT.option(low=1, help="Most tokens of a step.")] = 256
    most_running: Annotated[int, COUNT.option(low=1, help="Most sequences that run at once.")] = 16
    chunk: Annotated[int | None, COUNT.option(low=1, help="Most tokens of a prompt per step; default: whole.")] = None


@dataclass(frozen=True)
class DemandOptions:
    """Who arrives when: every rate, or speed, with every seed."""

    arrivals: Annotated[str, typer.Option(help=f"{', '.join(ARRIVALS)}.")] = "all"
    rate: options.Rate = None
    speed: options.Speed = None
    sequences: options.Sequences = None
    seed: Annotated[int | None, COUNT.option(low=0, help="Permutes the sequences and draws the arrivals.")] = None
    replications: Annotated[
        int | None, COUNT.option(low=1, help="Instead of one seed: seeds 0..n-1.")
    ] = None  # fmt: skip

    def demands(self) -> list[Demand]:
        """Return every rate and speed with every seed; InputError for what is no list, or a seed that is two."""
        if self.seed is not None and self.replications is not None:
            raise InputError("--seed and --replications both say which seeds, allowed: one of them")
        rates = listed(self.rate, "--rate", 1e-9, float) or [None]
        speeds = listed(self.speed, "--speed", 1e-9, float) or [1.0]
        drawn = [self.seed] if self.replications is None else seeds(self.replications)
        return [
            Demand(self.arrivals, rate, self.sequences, seed, speed)
            for rate in rates for speed in speeds for seed in drawn
        ]  # fmt: skip


@dataclass(frozen=True)
class SystemOptions:
    """What serves."""

    devices: options.Devices = 1
    placement: options.Placement = "contiguous"
    pools: Annotated[
        str | None,
        typer.Option(metavar="prefill=P,decode=Q", help="Linked: devices for prompts, the rest decode; default: all."),
    ] = None
    kv_bytes: Annotated[
        int, SIZE.option(low=0, help="Pools: bytes that a prompt's token takes from pool to pool; 0: none are sent.")
    ] = 0
    no_dense: options.NoDense = False
    engine: options.EngineName = "auto"

    def system(self, cluster: ClusterOptions, model: ModelInfo) -> System:
        """Return the machine; InputError for several machines, and for what does not fit together."""
        clusters = cluster.clusters(model, cluster.nodes)
        if len(clusters) > 1:
            lists = "--links, --micro-batches, --split, --shared-experts"
            raise InputError(f"{lists}: one machine serves, allowed: no lists")
        pools = None if self.pools is None else pools_of(self.pools)
        return System(
            self.devices, self.placement, clusters[0], pools, self.kv_bytes, not self.no_dense, self.engine
        )  # fmt: skip


def pools_of(text: str) -> tuple[int, int]:
    """Return the devices for prompts and those for decoding; InputError for another text."""
    words = [word.partition("=") for word in text.split(",")]
    found = {name: count for name, _, count in words}
    if len(words) != len(POOLS) or set(found) != set(POOLS) or not all(each.isdecimal() for each in found.values()):
        raise InputError(f"--pools: {text!r} is not allowed; allowed: prefill=P,decode=Q, numbers of devices")
    return int(found["prefill"]), int(found["decode"])


@grouped
def compose_command(
    trace_path: options.TracePath, cost: options.CostOptions, server: EngineOptions, demand: DemandOptions,
    system: SystemOptions, cluster: ClusterOptions,
    out: Annotated[Path | None, typer.Option(help="Trace to write, of one rate and seed.")] = None,
    requests: Annotated[
        Path | None, typer.Option(metavar="TABLE.csv", help="Write a row for every request, rate and seed.")
    ] = None,
    force: Force = False,
) -> None:  # fmt: skip
    """Put recorded sequences together as a serving engine would: continuous batching, a token budget, chunked prefill.

    The steps take the lockstep time of the costs, on one device or over linked ones. `run --arrivals steps` replays
    them, `--arrivals recorded` arrivals. Printed are times to the first token (TTFT) and per further one (TPOT).

    Example: `python -m simulate compose toy.trace.parquet --affine 20000,500 --arrivals poisson --rate 40
    --token-budget 64 --chunk 16 --out composed.trace.parquet`

    Example: `python -m simulate compose wide.trace.parquet --affine 20000,2000 --devices 8 --nodes 2 --links h800-ndr
    --arrivals poisson --rate 50,100,200 --replications 5 --requests served.csv`
    """
    demands, inputs = demand.demands(), [trace_path, cost.costs]
    check_outputs(out, requests, inputs, force, demands, system)
    trace, cost_model, made = load_trace(trace_path), cost.read(), Engine(**vars(server))
    served_by = system.system(cluster, trace.header.model)
    if served_by.dense:
        cost_model.check_dense(trace.L)
    served = serve_all(trace, made, demands, served_by, cost_model)
    if out is not None:
        write_trace(out, trace, asked_of(made, demands[0]) | served_by.asked, served[0], inputs, force)
    if requests is not None:
        write_requests(requests, trace, made, served_by, served, inputs, force)
    show(served)
    for said in (*served_by.unmodelled, *(f"no expert's time: {each}" for each in
                                          uncomputed(trace, trace.header.model.used_k))):  # fmt: skip
        print(said)


def check_outputs(
    out: Path | None, requests: Path | None, inputs: list, force: bool, demands: list[Demand], system: SystemOptions
) -> None:
    """Refuse a trace of several runs or of two pools, a table of another kind, and outputs that are there."""
    if out is not None and len(demands) > 1:
        raise InputError(
            f"--out: {len(demands)} runs are no one trace; allowed: one rate or speed, one seed; or --requests"
        )
    if out is not None and system.pools is not None:
        raise InputError("--out: two pools run steps beside each other, a trace holds one after another; allowed: "
                         "--requests")  # fmt: skip
    if requests is not None and requests.suffix != ".csv":
        raise InputError(f"--requests: {requests.name!r} is not allowed; allowed: a name that ends in .csv")
    for path in (out, requests):
        check_output(path, inputs, force)


def serve_all(
    trace: Trace, engine: Engine, demands: list[Demand], system: System, costs: CostModel
) -> list[Served]:  # fmt: skip
    """Return what came of every rate and seed; a bar says how far they are."""
    cycled = demands[0].sequences is not None
    with Progress(transient=True) as progress:
        task = progress.add_task("composing", total=None if cycled else trace.T * len(demands))
        return [
            serve(trace, engine, demand, system, costs.cost(rng=None), lambda rows: progress.advance(task, rows))
            for demand in demands
        ]


def write_trace(out: Path, trace: Trace, asked: dict, served: Served, inputs: list, force: bool) -> None:
    """Write the steps of one run as a trace."""
    made = composed(trace, served.parts, served.order_G, served.arrival_ns_G, asked)
    with staged(out, inputs, force) as written:
        save_trace(replace(made, header=replace(made.header, provenance=provenance(asked["seed"]))), written)
    print(f"{out}: {made.S} sequences, {made.T} tokens in {len(served.parts)} steps, "
          f"the last ends at {served.end_ns / 1e9:.3f} s")  # fmt: skip


def write_requests(
    path: Path, trace: Trace, engine: Engine, system: System, served: list[Served], inputs: list, force: bool
) -> None:
    """Write the rows of all requests as CSV, and beside them what served and how they came."""
    rows = [row for each in served for row in each.rows]
    with staged(path, inputs, force) as written:
        write_rows(written, rows)
        about = {"table": path.stem, "rows": len(rows), "inputs": {"trace": trace.digest}}
        about |= {"engine": vars(engine), "system": system.asked, "provenance": provenance()}
        write_json(written.with_suffix(".json"), about)
    print(f"{path}: {len(rows)} requests; `python -m analysis requests {path}` says which rates keep a target")


def show(served: list[Served]) -> None:
    """Print a row for every rate, means over seeds."""
    rows = [row for each in served for row in each.rows]
    found, speeds = by_rate(rows), speeds_by_rate(rows)
    names = [*["speed"] * bool(speeds), "rate_per_s", "replications", *PRINTED, "status"]
    table = Table(*map(title, names), box=None)
    for rate, (seeds_of, status) in found.items():
        means = [float(np.mean([each[name] for each in seeds_of])) for name in PRINTED]
        speed = [f"{float(speeds[rate]):g}"] if speeds else []
        asked = f"{float(rate):.6g}" if rate else ""
        values = ("" if np.isnan(each) else f"{each:.4g}" for each in means)
        table.add_row(*speed, asked, str(len(seeds_of)), *values, status)
    print_table(table)
