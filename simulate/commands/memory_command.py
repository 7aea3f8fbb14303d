"""`python -m simulate memory`: what absent experts cost, with time, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from moe_replay.simulate.commands import options
from moe_replay.simulate.commands.by_name import LinkOptions, bytes_of_expert
from moe_replay.simulate.config.memory_config import HANDLINGS, MemoryConfig
from moe_replay.simulate.config.memory_grid import MemoryGrid
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.run_grid import RunGrid, needed
from moe_replay.simulate.policies.memory.filling import sharing
from moe_replay.simulate.policies.memory.knowledge_source import file_of, lesson_of
from moe_replay.simulate.policies.placement import place
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.simulate.sweeps.regret import memory_configs
from moe_replay.simulate.sweeps.run_folder import new_runs, report
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.command_line.units import COUNT, SIZE
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.selections import Trace

NoExplain = Annotated[bool, typer.Option("--no-explain", help="Leave out the worlds behind the regret.")]


@dataclass(frozen=True)
class SlotOptions:
    """Which experts are on a device and which come to it: what `memory` takes the cross product of."""

    cache: options.CacheNames = "lru,belady"
    slots: Annotated[str, typer.Option(help="Expert slots of each cache; several with commas.")] = "1"
    scope: options.Scope = "layer"
    miss: Annotated[str, typer.Option(help=f"{', '.join(HANDLINGS)}; several with commas.")] = "load"
    prefetch: Annotated[str, typer.Option(help=f"{PREFETCHERS.choices}; several with commas.")] = "none"
    look_ahead: options.LookAhead = 1
    period: Annotated[
        str | None, typer.Option(help="Importance, redirect or skip: passes between new residents; with commas.")
    ] = None
    filled: options.Filled = False
    expert_bytes: Annotated[
        int | None, SIZE.option(low=1, help="Of one expert; default: what the cost table, or else the trace says.")
    ] = None
    host_factor: Annotated[float, typer.Option(min=1e-9, help="Host: its cost over the device's.")] = 10.0

    def memories(self, expert_bytes: int, links: Sequence[dict]) -> list[MemoryConfig]:
        """Return every memory over every link, for experts of so many bytes; InputError where none means anything."""
        return [
            memory
            for link in links
            for memory in MemoryGrid(
                caches=self.cache.split(","), slots=command.numbers(self.slots, "--slots"), misses=self.miss.split(","),
                prefetchers=self.prefetch.split(","),
                periods=command.numbers(self.period, "--period") if self.period else [None],
                fixed={
                    "scope": self.scope, "filled": self.filled, "look_ahead": self.look_ahead,
                    "host_factor": self.host_factor, "expert_bytes": expert_bytes, **link,
                },
            ).memories()
        ]  # fmt: skip


@dataclass(frozen=True)
class ServedOptions:
    """What is served and in which order: every memory meets every combination."""

    scheduler: options.Scheduler = "lockstep"
    queue_size: options.QueueSize = "1"
    max_step: options.MaxStep = None
    arrivals: options.ArrivalProcess = "closed"
    in_flight: options.InFlight = "1"
    rate: options.Rate = None
    speed: options.Speed = None
    sequences: options.Sequences = None
    replications: options.Replications = 0
    k: options.K = None
    no_dense: options.NoDense = False
    devices: Annotated[int, COUNT.option(low=1, help="Devices, each with its own slots and link.")] = 1

    def bases(self) -> list[RunConfig]:
        """Return the configurations that every memory meets; InputError for what is no list of numbers."""
        rates = command.listed(self.rate, "--rate", 1e-9, float)
        if self.arrivals == "poisson":
            needed(rates, "poisson", "--rate")  # a grid that lacks them asks for loads, too, which are none here
        unseeded = [0 if self.arrivals == "poisson" else None]  # arrivals that are drawn need a seed
        return RunGrid(
            fixed={
                "arrivals": self.arrivals, "sequences": self.sequences, "dense": not self.no_dense,
                "devices": self.devices,
            },
            schedulers=self.scheduler.split(","), queue_sizes=command.numbers(self.queue_size, "--queue-size"),
            max_steps=command.listed(self.max_step, "--max-step") or [None],
            in_flight=command.listed(self.in_flight, "--in-flight"), loads=[],
            rates_per_s=rates,
            ks=command.listed(self.k, "--k") or [None],
            seeds=command.seeds(self.replications) if self.replications else unseeded,
            speeds=command.listed(self.speed, "--speed", 1e-9, float),
        ).configs({})  # fmt: skip


@grouped
def memory_command(
    trace_path: options.TracePath, out: options.Out, cost: options.CostOptions, slots: SlotOptions, link: LinkOptions,
    served: ServedOptions, running: options.RunningOptions, known: options.Known = None, no_explain: NoExplain = False,
) -> None:  # fmt: skip
    """What do absent experts cost? Every cache, number of slots, miss handling, prefetcher and link, with time.

    Beside them runs the same with all experts resident and, unless `--no-explain`, the worlds that tell why time is
    lost; `python -m analysis memory OUT` shows both.

    Example: `python -m simulate memory toy.trace.parquet --affine 20000,500 --cache lru,belady --slots 2,4
    --miss load,block --bandwidth 1GB/s,16GB/s --expert-bytes 100kB --out memory`
    """
    check_place(out, [trace_path, cost.costs, link.link, file_of(known)], folder=True)
    trace, cost_model = load_trace(trace_path), cost.read()
    expert_bytes = bytes_of_expert(slots.expert_bytes, cost_model, trace.header.model.expert_bytes)
    memories, bases = slots.memories(expert_bytes, link.each()), served.bases()
    lesson = lesson_of(trace, known, {need for memory in memories for need in memory.needs})
    experts = experts_sharing(trace, bases[0], memories)  # alike for all: devices and placement are not swept
    configs = memory_configs(lesson.shared(bases), memories, experts, not no_explain)
    runs = new_runs(trace, cost_model, out, list(configs.values()), lesson, running.engine, running.force)
    report(runs, configs, running.jobs)
    if lesson.said:
        print(lesson.said)


def experts_sharing(trace: Trace, base: RunConfig, memories: Sequence[MemoryConfig]) -> int:
    """Return how many experts share a cache's slots at most; InputError, before anything runs, for more slots."""
    device_LB = place(base.placement, trace.L, trace.E, base.devices)
    device_K = device_LB[: trace.L, 1:].ravel().tolist()
    return max(sharing(memory, device_K, trace.E) for memory in memories)
