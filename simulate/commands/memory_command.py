"""`python -m simulate memory`: parses, reads, calls, writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from moe_replay.simulate.commands import options
from moe_replay.simulate.commands.by_name import LinkOptions, bytes_of_expert
from moe_replay.simulate.config.memory_config import HANDLINGS, MemoryConfig
from moe_replay.simulate.config.memory_grid import MemoryGrid
from moe_replay.simulate.config.run_config import ONLY_UNDER, SCHEDULERS, RunConfig, has_meaning
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

    def grid(self, expert_bytes: int, link: LinkOptions) -> MemoryGrid:
        """Return the grid of memories, for experts of so many bytes that come over a link."""
        return MemoryGrid(
            caches=self.cache.split(","), slots=command.numbers(self.slots, "--slots"), misses=self.miss.split(","),
            prefetchers=self.prefetch.split(","),
            periods=command.numbers(self.period, "--period") if self.period else [None],
            fixed={
                "scope": self.scope, "filled": self.filled, "look_ahead": self.look_ahead,
                "host_factor": self.host_factor, "expert_bytes": expert_bytes, **link.fields(),
            },
        )  # fmt: skip


@dataclass(frozen=True)
class ServedOptions:
    """What is served and in which order: alike for all memories."""

    scheduler: Annotated[str, typer.Option(help=f"{SCHEDULERS.choices}.")] = "lockstep"
    queue_size: Annotated[int, COUNT.option(low=1, help="Queues: B.")] = 1
    max_step: Annotated[int | None, COUNT.option(low=1, help="Lockstep: most passes in a step.")] = None
    arrivals: options.ArrivalProcess = "closed"
    in_flight: Annotated[int, COUNT.option(low=1, help="Closed loop: sequences in flight; 1 is batch 1.")] = 1
    rate: Annotated[float | None, typer.Option(min=1e-9, help="Poisson: sequences per second.")] = None
    sequences: options.Sequences = None
    replications: options.Replications = 0
    k: Annotated[int | None, COUNT.option(low=1, help="Experts per token; default the model's own.")] = None
    no_dense: options.NoDense = False
    devices: Annotated[int, COUNT.option(low=1, help="Devices, each with its own slots and link.")] = 1

    def base(self) -> RunConfig:
        """Return the configuration that all memories share."""
        kinds = {"scheduler": self.scheduler, "arrivals": self.arrivals}
        fields = {
            "queue_size": self.queue_size, "max_step": self.max_step, "in_flight": self.in_flight,
            "rate_per_s": self.rate,
        }  # fmt: skip
        return RunConfig(
            **kinds, sequences=self.sequences, k=self.k, dense=not self.no_dense, devices=self.devices,
            **{name: value for name, value in fields.items() if has_meaning(name, kinds[ONLY_UNDER[name][0]])},
            **({"seed": 0} if self.arrivals == "poisson" else {}),
        )  # fmt: skip


@grouped
def memory_command(
    trace_path: options.TracePath, out: options.Out, cost: options.CostOptions, slots: SlotOptions, link: LinkOptions,
    served: ServedOptions, running: options.RunningOptions, known: options.Known = None, no_explain: NoExplain = False,
) -> None:  # fmt: skip
    """What do absent experts cost? Every cache, number of slots, miss handling and prefetcher, with time.

    Beside them runs the same with all experts resident and, unless `--no-explain`, the worlds that tell why time is
    lost; `python -m analysis memory OUT` shows both.

    Example: `python -m simulate memory toy.trace.parquet --affine 20000,500 --cache lru,belady --slots 2,4
    --miss load,block --bandwidth 1GB/s --expert-bytes 100kB --out memory`
    """
    check_place(out, [trace_path, cost.costs, link.link, file_of(known)], folder=True)
    trace, cost_model = load_trace(trace_path), cost.read()
    expert_bytes = bytes_of_expert(slots.expert_bytes, cost_model, trace.header.model.expert_bytes)
    grid, base = slots.grid(expert_bytes, link), served.base()
    seeds = command.seeds(served.replications) if served.replications else [base.seed]
    memories = grid.memories()
    lesson = lesson_of(trace, known, {need for memory in memories for need in memory.needs})
    bases = lesson.shared(replace(base, seed=seed) for seed in seeds)
    configs = memory_configs(bases, memories, experts_sharing(trace, base, memories), not no_explain)
    runs = new_runs(trace, cost_model, out, list(configs.values()), lesson, running.engine, running.force)
    report(runs, configs, running.jobs)
    if lesson.said:
        print(lesson.said)


def experts_sharing(trace: Trace, base: RunConfig, memories: Sequence[MemoryConfig]) -> int:
    """Return how many experts share a cache's slots at most; InputError, before anything runs, for more slots."""
    device_LB = place(base.placement, trace.L, trace.E, base.devices)
    device_K = device_LB[: trace.L, 1:].ravel().tolist()
    return max(sharing(memory, device_K, trace.E) for memory in memories)
