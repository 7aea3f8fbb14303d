"""Options of `collect costs`, `execute` and `swap-profile`: what is measured or executed, and under which rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer

from moe_replay.collect.execution.calibration import SIZES, CalibrationPlan
from moe_replay.collect.execution.executor import EXECUTABLE
from moe_replay.collect.execution.experiment import QueueSizeExperiment
from moe_replay.collect.execution.slow_tier import link_fields
from moe_replay.simulate.config.memory_config import MASKED, MemoryConfig
from moe_replay.simulate.config.memory_grid import MemoryGrid
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.memory.knowledge_source import HELP
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.units import BANDWIDTH, COUNT, SHARE, time_in
from moe_replay.traces.errors import InputError, unknown_name
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.selections import Trace

Bandwidth = Annotated[
    float | None,
    BANDWIDTH.option(
        "--bandwidth", low=1, help="Slots: of the slow tier, on a CPU its pace (0.25GB/s), on a GPU a name (64GB/s)."
    ),
]
Latency = Annotated[
    int | None,
    time_in("us").option(
        "--latency", low=0, help="Slots: least time of a transfer beside its bytes, likewise (100us; 10us)."
    ),
]
Slots = Annotated[str | None, typer.Option(help="Expert slots per layer, with commas; default: all are resident.")]
KnownFrom = Annotated[str | None, typer.Option(metavar="TRACE|hindsight", help=HELP.replace("TRACE", "--trace", 1))]
Costs = Annotated[Path, typer.Option(help="Cost table of this device: it fixes the rates that loads mean.")]


@dataclass(frozen=True)
class TierOptions:
    """The slow tier, from which experts come to slots: a pace on a CPU, a name of the link on a GPU."""

    link_bytes_per_s: Bandwidth = None
    link_latency_ns: Latency = None

    def fields(self, where: torch.device, expert_bytes: int) -> dict:
        """Return the fields of a memory that say what a transfer of an expert takes."""
        return link_fields(where, self.link_bytes_per_s, self.link_latency_ns, expert_bytes)


@dataclass(frozen=True)
class CalibrationOptions:
    """What is measured how often, and under which way to keep experts."""

    sizes: Annotated[str, typer.Option(help="Batch sizes, with commas.")] = ",".join(map(str, SIZES))
    repetitions: Annotated[int, COUNT.option(low=1, help="Visits of every size, in a new order each time.")] = 10
    slots: Slots = None
    miss: Annotated[str, typer.Option(help=f"Slots: {', '.join(EXECUTABLE)}.")] = "load"

    def plan(self) -> CalibrationPlan:
        """Return the plan; InputError for what is no list of numbers."""
        return CalibrationPlan(tuple(command.numbers(self.sizes, "--sizes")), self.repetitions)

    def memory(self, link: dict) -> MemoryConfig | None:
        """Return the memory under which is measured, None where all experts are resident."""
        if self.miss not in EXECUTABLE:
            raise unknown_name("miss handling", self.miss, EXECUTABLE)
        if self.slots is None:
            return None
        slots = command.numbers(self.slots, "--slots")[0]
        return MemoryConfig(cache="random", slots=slots, miss=self.miss, filled=self.miss in MASKED, **link)


@dataclass(frozen=True)
class QueueOptions:
    """Queues, lockstep and arrivals: which runs are executed."""

    queue_size: Annotated[str, typer.Option(help="Queue sizes B, with commas.")] = "1,2,4,8,16,32,64,128"
    load: Annotated[str, typer.Option(help="Poisson loads as shares of the capacity at the largest B.")] = "0.3,0.6,0.9"
    in_flight: Annotated[str, typer.Option(help="Closed loops: sequences in flight.")] = "32,256,2048"
    lockstep: Annotated[int, COUNT.option(low=0, help="Most passes in a step of lockstep; 0 leaves it out.")] = 512
    replications: Annotated[int, COUNT.option(low=1, help="Replication i permutes and draws by seed i.")] = 3
    batches_per_queue: Annotated[int, COUNT.option(low=1, help="Full batches per mean queue that are measured.")] = 50
    least_passes: Annotated[int, COUNT.option(low=1, help="Passes of the shortest runs.")] = 600

    def lists(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the queue sizes and the numbers of sequences in flight."""
        sizes = command.numbers(self.queue_size, "--queue-size")
        return tuple(sizes), tuple(command.numbers(self.in_flight, "--in-flight"))

    def resident(self, recorded: Trace, table: CostTable) -> list[RunConfig]:
        """Return the runs with all experts resident."""
        sizes, counts = self.lists()
        experiment = QueueSizeExperiment(
            sizes, tuple(SHARE.listed(self.load, "--load", 1e-6)), counts, self.lockstep or None,
            self.replications, self.batches_per_queue, self.least_passes,
        )  # fmt: skip
        k, long = recorded.header.model.used_k, recorded.T / len(recorded.sequences_S)
        return experiment.configurations(table, k, recorded.L, recorded.E, long)


@dataclass(frozen=True)
class SlotOptions:
    """Expert slots: which experts are on the device and which come to it."""

    slots: Slots = None
    layer_slots: Annotated[
        str | None, typer.Option(help="Instead of --slots: one number of slots for every layer, with commas.")
    ] = None
    cache: Annotated[str, typer.Option(help=f"Slots: {CACHES.choices}; with commas.")] = "lru"
    miss: Annotated[str, typer.Option(help=f"Slots: {', '.join(EXECUTABLE)}; with commas.")] = "load"
    prefetch: Annotated[str, typer.Option(help=f"Slots: {PREFETCHERS.choices}; with commas.")] = "none"
    period: Annotated[
        str | None, typer.Option(help="Slots, importance: passes between new residents; with commas.")
    ] = None
    filled: Annotated[bool, typer.Option("--filled", help="Slots: start with the most popular experts.")] = False
    sequences: Annotated[int | None, COUNT.option(low=1, help="Slots: sequences to serve; default each once.")] = None

    @property
    def are_given(self) -> bool:
        """Whether there are slots at all."""
        return self.slots is not None or self.layer_slots is not None

    def memories(self, link: dict) -> list[MemoryConfig]:
        """Return the memories of every combination that means something."""
        grid = MemoryGrid(
            caches=self.cache.split(","), slots=self.numbers(), misses=self.miss.split(","),
            prefetchers=self.prefetch.split(","),
            periods=command.numbers(self.period, "--period") if self.period else [None],
            fixed={"filled": self.filled, **link},
        )  # fmt: skip
        return grid.memories()

    def numbers(self) -> list[int | tuple[int, ...]]:
        """Return the numbers of slots of two options; InputError where both are given."""
        if self.slots is not None and self.layer_slots is not None:
            raise InputError("--slots and --layer-slots: allowed one of them")
        if self.layer_slots is not None:
            return [tuple(command.numbers(self.layer_slots, "--layer-slots"))]
        return command.numbers(self.slots, "--slots")
