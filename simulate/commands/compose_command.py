"""`python -m simulate compose`: recorded sequences as the steps that a serving engine would make of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from moe_replay.simulate.commands import options
from moe_replay.simulate.config.composition import ARRIVALS, Demand, Engine, compose
from moe_replay.traces.command_line.command import Force
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_output, staged
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.command_line.units import COUNT
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.routes import uncomputed


@grouped
def compose_command(
    trace_path: options.TracePath,
    out: Annotated[Path, typer.Option(help="Trace to write.")],
    cost: options.CostOptions,
    token_budget: Annotated[int, COUNT.option(low=1, help="Most tokens of a step.")] = 256,
    most_running: Annotated[int, COUNT.option(low=1, help="Most sequences that run at once.")] = 16,
    chunk: Annotated[int | None, COUNT.option(low=1, help="Most tokens of a prompt per step; default: whole.")] = None,
    arrivals: Annotated[str, typer.Option(help=f"{', '.join(ARRIVALS)}.")] = "all",
    rate: Annotated[float | None, typer.Option(min=1e-9, help="Poisson: sequences per second.")] = None,
    sequences: options.Sequences = None,
    seed: Annotated[int | None, COUNT.option(low=0, help="Permutes the sequences and draws the arrivals.")] = None,
    no_dense: options.NoDense = False,
    force: Force = False,
) -> None:
    """Put recorded sequences together as a serving engine would: continuous batching, a token budget, chunked prefill.

    The steps take the lockstep time of the costs. `run --arrivals steps` replays them, `--arrivals recorded` arrivals.

    Example: `python -m simulate compose toy.trace.parquet --affine 20000,500 --arrivals poisson --rate 40
    --token-budget 64 --chunk 16 --out composed.trace.parquet`
    """
    engine, demand = Engine(token_budget, most_running, chunk), Demand(arrivals, rate, sequences, seed)
    check_output(out, [trace_path, cost.costs], force)
    trace, cost_model = load_trace(trace_path), cost.read()
    if not no_dense:
        cost_model.check_dense(trace.L)
    with Progress(transient=True) as progress:
        task = progress.add_task("composing", total=None if sequences else trace.T)
        made, end_ns = compose(
            trace, engine, demand, cost_model.cost(rng=None), not no_dense, lambda rows: progress.advance(task, rows)
        )
    with staged(out, [trace_path, cost.costs], force) as written:
        save_trace(replace(made, header=replace(made.header, provenance=provenance(seed))), written)
    steps = int(made.step_T[-1]) + 1
    print(f"{out}: {made.S} sequences, {made.T} tokens in {steps} steps, the last ends at {end_ns / 1e9:.3f} s")
    for said in uncomputed(trace, trace.header.model.used_k):
        print(f"no expert's time: {said}")
