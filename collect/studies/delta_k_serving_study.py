"""Serving at operating points: the same arrivals executed under traces that differ in how many experts a token gets."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.collect.execution.executor import TraceOnWeights
from moe_replay.collect.execution.experiment import MEASURED_SHARE
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.runs.run_records import holds_run, run_identity
from moe_replay.traces.selections import Trace


@dataclass(frozen=True)
class ServingExperiment:
    """Closed loops and Poisson arrivals at one queue size, the same for every trace.

    `load` is a share of the capacity at the model's own k, so that every trace meets the *same* arrivals per second;
    a trace with fewer experts per token is then less busy. Lengths are as in the experiment on queue size:
    `batches_per_queue` full batches for a queue of mean load.
    """

    queue_size: int = 32
    in_flight: tuple[int, ...] = (256, 2048)
    load: float | None = 0.6
    replications: int = 3
    batches_per_queue: int = 30

    def configurations(self, costs: CostTable, own_k: int, trace: Trace, seed: int) -> list[RunConfig]:
        """Return the runs of one trace and replication."""
        mean_k = float((trace.experts_TLK >= 0).sum(axis=2).mean())
        closed = [
            RunConfig(
                queue_size=self.queue_size, arrivals="closed", in_flight=count, seed=seed,
                sequences=self.passes(min(self.queue_size, count * mean_k / trace.E), mean_k, trace.E) + 2 * count,
            )
            for count in self.in_flight
        ]  # fmt: skip
        if self.load is None:
            return closed
        rate = self.load * costs.capacity_per_s(own_k, trace.L, self.queue_size)
        filling = 2 * self.queue_size * (trace.L + 1 + math.ceil(trace.L * trace.E / mean_k))
        sequences = self.passes(self.queue_size, mean_k, trace.E) + filling
        return [
            *closed,
            RunConfig(
                queue_size=self.queue_size, arrivals="poisson", load=self.load, rate_per_s=rate, seed=seed,
                sequences=sequences,
            ),
        ]  # fmt: skip

    def passes(self, batch: float, mean_k: float, experts: int) -> int:
        """Return how many passes give a queue of mean load its number of batches."""
        return math.ceil(self.batches_per_queue * batch * experts / mean_k / MEASURED_SHARE)


def serve(
    points: dict[str, TraceOnWeights], experiment: ServingExperiment, costs: CostTable, own_k: int, device: str,
    out: Path, force: bool = False,
) -> Iterator[str]:  # fmt: skip
    """Execute every run of every named point into `out/NAME`, points in a new order each replication; yield what ran.

    Finished runs found there are kept; another run under a name is refused unless `force` replaces it. Points take
    turns within a replication, so that a slow spell of the machine meets all of them.
    """
    draws = np.random.default_rng(0)
    for seed in range(experiment.replications):
        for name in draws.permutation(sorted(points)).tolist():
            real = points[name]
            for config in experiment.configurations(costs, own_k, real.trace, seed):
                header = run_header(
                    "executed", config, device, real.trace.digest, costs.header["header_digest"], provenance(seed)
                )
                if not holds_run(out / name, config.name, run_identity(header), force):
                    real.execute(config, header).save(out / name, config.name)
                yield f"{name} {config.name}"
