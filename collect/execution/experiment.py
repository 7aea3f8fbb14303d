"""Experiments: which configurations are executed, and how long each must run to mean something."""

import math
from dataclasses import dataclass, replace

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.traces.runs.cost_table import CostTable

MEASURED_SHARE = 0.65  # of a run's passes lie between warm-up and drain, with a margin
LOCKSTEP_STEPS = 40  # of a lockstep run: nothing queues up there, so only the spread over steps asks for a number


@dataclass(frozen=True)
class QueueSizeExperiment:
    """A cross product of queue sizes with closed loops and Poisson loads, over replications, plus lockstep.

    `loads` are shares of the capacity that the cost table gives at the largest B. `batches_per_queue`: full batches
    that an expert queue of mean load gets between warm-up and drain. `least_passes` bounds short runs from below.
    """

    queue_sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128)
    loads: tuple[float, ...] = (0.3, 0.6, 0.9)
    in_flight: tuple[int, ...] = (32, 256, 2048)
    lockstep_step: int | None = 512
    replications: int = 3
    batches_per_queue: int = 50
    least_passes: int = 600

    def configurations(
        self, costs: CostTable, k: int, layers: int, experts: int, tokens_per_sequence: float = 1.0
    ) -> list[RunConfig]:
        """Return every configuration of every replication, replication by replication.

        Lengths and rates are worked out in passes of one token; `tokens_per_sequence` makes sequences of them.
        """
        capacity = costs.capacity_per_s(k, layers, max(self.queue_sizes))
        return [
            of_sequences(config, tokens_per_sequence)
            for seed in range(self.replications)
            for config in (
                *self._closed(seed, k, experts),
                *self._poisson(seed, k, experts, capacity, costs, layers),
                *self._lockstep(seed, k),
            )
        ]  # fmt: skip

    def passes(self, queue_size: int, k: int, experts: int) -> int:
        """Return how many passes give a queue of mean load its number of full batches."""
        needed = self.batches_per_queue * queue_size * experts / k / MEASURED_SHARE
        return max(self.least_passes, math.ceil(needed))

    def _closed(self, seed: int, k: int, experts: int) -> list[RunConfig]:
        # N passes leave at most N * k / E selections for an expert: a larger B only meets forced batches of that size.
        # On top, twice what is in flight: all of it starts together, and as much drains at the end.
        return [
            RunConfig(
                queue_size=size, arrivals="closed", in_flight=count, k=k, seed=seed,
                sequences=self.passes(min(size, max(1, count * k // experts)), k, experts) + 2 * count,
            )
            for size in self.queue_sizes
            for count in self.in_flight
        ]  # fmt: skip

    def _poisson(
        self, seed: int, k: int, experts: int, capacity: float, costs: CostTable, layers: int
    ) -> list[RunConfig]:
        # An unstable point only has to show that it is one: its queues grow from the start, so a short run will do.
        # Elsewhere warm-up and drain take about what fills every queue on a pass's way once each.
        return [
            RunConfig(
                queue_size=size, arrivals="poisson", load=load, rate_per_s=load * capacity, k=k, seed=seed,
                sequences=self.passes(size, k, experts) + filling if stable else self.least_passes // 2,
            )
            for size in self.queue_sizes
            for load in self.loads
            for stable in [load * capacity < costs.capacity_per_s(k, layers, size)]
            for filling in [2 * size * (layers + 1 + layers * experts // k)]
        ]  # fmt: skip

    def _lockstep(self, seed: int, k: int) -> list[RunConfig]:
        if self.lockstep_step is None:
            return []
        return [
            RunConfig(
                scheduler="lockstep", max_step=self.lockstep_step, arrivals="closed", in_flight=count, k=k, seed=seed,
                sequences=max(self.least_passes, LOCKSTEP_STEPS * min(self.lockstep_step, count)),
            )
            for count in self.in_flight
        ]  # fmt: skip


def of_sequences(config: RunConfig, tokens_per_sequence: float) -> RunConfig:
    """Return a configuration whose length and rate count passes of one token as one that counts sequences."""
    sequences = max(math.ceil(config.sequences / tokens_per_sequence), 2 * (config.in_flight or 0))
    rate = None if config.rate_per_s is None else config.rate_per_s / tokens_per_sequence
    return config if tokens_per_sequence == 1 else replace(config, sequences=sequences, rate_per_s=rate)


@dataclass(frozen=True)
class MemoryExperiment:
    """Every memory, and all experts resident, under closed loops: queues of every size, and lockstep.

    `sequences` are served (None: each of the trace once), in the trace's order in replication 0, permuted later on.
    """

    memories: tuple[MemoryConfig, ...]
    queue_sizes: tuple[int, ...] = ()
    in_flight: tuple[int, ...] = (1,)
    lockstep_step: int | None = None
    replications: int = 1
    sequences: int | None = None

    def configurations(self) -> list[RunConfig]:
        """Return every configuration of every replication, replication by replication."""
        return [
            replace(base, memory=memory, seed=seed or None)
            for seed in range(self.replications)
            for base in self._bases()
            for memory in (None, *self.memories)
        ]

    def _bases(self) -> list[RunConfig]:
        found = []
        for count in self.in_flight:
            loop = {"arrivals": "closed", "in_flight": count, "sequences": self.sequences}
            found += [RunConfig(queue_size=size, **loop) for size in self.queue_sizes]
            if self.lockstep_step is not None:
                found.append(RunConfig(scheduler="lockstep", max_step=self.lockstep_step, **loop))
        return found
