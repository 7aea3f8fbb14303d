"""`python -m simulate memory`: parses, reads, calls, writes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from moe_replay.simulate.commands.by_name import BANDWIDTH, LATENCY_US, Costs, Link, bytes_of_expert, link_fields
from moe_replay.simulate.config.costs import read_costs
from moe_replay.simulate.config.memory_config import HANDLINGS, MemoryConfig
from moe_replay.simulate.config.memory_grid import MemoryGrid
from moe_replay.simulate.config.run_config import ONLY_UNDER, SCHEDULERS, RunConfig, has_meaning
from moe_replay.simulate.engines.engine_choice import ENGINES
from moe_replay.simulate.policies.arrivals import ARRIVALS
from moe_replay.simulate.policies.caches.cache_names import CACHES, SCOPES
from moe_replay.simulate.policies.memory.filling import sharing
from moe_replay.simulate.policies.memory.knowledge_source import HELP, file_of, lesson_of
from moe_replay.simulate.policies.placement import place
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.simulate.sweeps.regret import memory_configs
from moe_replay.simulate.sweeps.run_folder import new_runs, report
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.selections import Trace


def memory_command(
    trace_path: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace.")],
    out: Annotated[Path, typer.Option(help="Folder for the run records; runs that are complete there are kept.")],
    costs: Costs = None,
    affine: Annotated[str | None, typer.Option(metavar="A,B", help="Instead: A + B n ns for every batch of n.")] = None,
    cache: Annotated[str, typer.Option(help=f"{CACHES.choices}; several with commas.")] = "lru,belady",
    slots: Annotated[str, typer.Option(help="Expert slots of each cache; several with commas.")] = "1",
    scope: Annotated[str, typer.Option(help=f"{', '.join(SCOPES)}: a cache for each layer, or one for all.")] = "layer",
    miss: Annotated[str, typer.Option(help=f"{', '.join(HANDLINGS)}; several with commas.")] = "load",
    prefetch: Annotated[str, typer.Option(help=f"{PREFETCHERS.choices}; several with commas.")] = "none",
    look_ahead: Annotated[int, typer.Option(min=1, help="Groups that the oracle prefetcher sees ahead.")] = 1,
    period: Annotated[
        str | None, typer.Option(help="Importance, redirect or skip: passes between new residents; with commas.")
    ] = None,
    filled: Annotated[bool, typer.Option("--filled", help="Start with the most popular experts in the slots.")] = False,
    link: Link = None,
    bandwidth: Annotated[
        float | None, typer.Option(min=1e-9, help=f"Of the link to a device, GB/s; default {BANDWIDTH:g}.")
    ] = None,
    latency_us: Annotated[
        float | None, typer.Option(min=0, help=f"Of one transfer, beside its bytes; default {LATENCY_US:g}.")
    ] = None,
    expert_bytes: Annotated[
        int | None, typer.Option(min=1, help="Of one expert; default: what the cost table, or else the trace says.")
    ] = None,
    host_factor: Annotated[float, typer.Option(min=1e-9, help="Host: its cost over the device's.")] = 10.0,
    scheduler: Annotated[str, typer.Option(help=f"{SCHEDULERS.choices}.")] = "lockstep",
    queue_size: Annotated[int, typer.Option(min=1, help="Queues: B.")] = 1,
    max_step: Annotated[int | None, typer.Option(min=1, help="Lockstep: most passes in a step.")] = None,
    arrivals: Annotated[str, typer.Option(help=f"{ARRIVALS.choices}.")] = "closed",
    in_flight: Annotated[int, typer.Option(min=1, help="Closed loop: sequences in flight; 1 is batch 1.")] = 1,
    rate: Annotated[float | None, typer.Option(min=1e-9, help="Poisson: sequences per second.")] = None,
    sequences: Annotated[int | None, typer.Option(min=1, help="Sequences to serve; default each once.")] = None,
    replications: Annotated[int, typer.Option(min=0, help="Seeds 0..n-1; 0: one run in the trace's order.")] = 0,
    k: Annotated[int | None, typer.Option(min=1, help="Experts per token; default the model's own.")] = None,
    no_dense: Annotated[bool, typer.Option("--no-dense", help="Leave the dense blocks out.")] = False,
    devices: Annotated[int, typer.Option(min=1, help="Devices, each with its own slots and link.")] = 1,
    known: Annotated[str | None, typer.Option(metavar="TRACE|hindsight", help=HELP)] = None,
    no_explain: Annotated[bool, typer.Option("--no-explain", help="Leave out the worlds behind the regret.")] = False,
    engine: Annotated[str, typer.Option(help=f"{', '.join(ENGINES)}.")] = "auto",
    jobs: Annotated[int, typer.Option(min=0, help="Processes, or threads of compiled runs; 0 is one per core.")] = 0,
    force: command.Force = False,
) -> None:  # fmt: skip
    """What do absent experts cost? Every cache, number of slots, miss handling and prefetcher, with time.

    Beside them runs the same with all experts resident and, unless `--no-explain`, the worlds that tell why time is
    lost; `python -m analysis memory OUT` shows both.

    Example: `python -m simulate memory toy.trace.parquet --affine 20000,500 --cache lru,belady --slots 2,4
    --miss load,block --bandwidth 1 --expert-bytes 100000 --out memory`
    """
    check_place(out, [trace_path, costs, link, file_of(known)], folder=True)
    trace, cost_model = load_trace(trace_path), read_costs(costs, affine, resample=False)
    grid = MemoryGrid(
        caches=cache.split(","), slots=command.numbers(slots, "--slots"), misses=miss.split(","),
        prefetchers=prefetch.split(","), periods=command.numbers(period, "--period") if period else [None],
        fixed={
            "scope": scope, "filled": filled, "look_ahead": look_ahead, "host_factor": host_factor,
            "expert_bytes": bytes_of_expert(expert_bytes, cost_model, trace.header.model.expert_bytes),
            **link_fields(link, bandwidth, latency_us),
        },
    )  # fmt: skip
    fields = {"queue_size": queue_size, "max_step": max_step, "in_flight": in_flight, "rate_per_s": rate}
    of_kind = {"scheduler": scheduler, "arrivals": arrivals}
    base = RunConfig(
        scheduler=scheduler, arrivals=arrivals, sequences=sequences, k=k, dense=not no_dense, devices=devices,
        **{name: value for name, value in fields.items() if has_meaning(name, of_kind[ONLY_UNDER[name][0]])},
        **({"seed": 0} if arrivals == "poisson" else {}),
    )  # fmt: skip
    seeds = command.seeds(replications) if replications else [base.seed]
    memories = grid.memories()
    lesson = lesson_of(trace, known, {need for memory in memories for need in memory.needs})
    bases = lesson.shared(replace(base, seed=seed) for seed in seeds)
    configs = memory_configs(bases, memories, experts_sharing(trace, base, memories), not no_explain)
    report(new_runs(trace, cost_model, out, list(configs.values()), lesson, engine, force), configs, jobs)
    if lesson.said:
        print(lesson.said)


def experts_sharing(trace: Trace, base: RunConfig, memories: Sequence[MemoryConfig]) -> int:
    """Return how many experts share a cache's slots at most; InputError, before anything runs, for more slots."""
    device_LB = place(base.placement, trace.L, trace.E, base.devices)
    device_K = device_LB[: trace.L, 1:].ravel().tolist()
    return max(sharing(memory, device_K, trace.E) for memory in memories)
