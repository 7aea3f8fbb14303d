"""`python -m simulate run`: every combination of lists, a folder of record tables."""

from __future__ import annotations

from dataclasses import dataclass, replace

from moe_replay.simulate.commands import options
from moe_replay.simulate.config.cluster_options import ClusterOptions
from moe_replay.simulate.config.costs import CostModel
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.run_grid import RunGrid, capacity_per_s
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.sweeps.run_folder import new_runs, report
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.option_groups import grouped
from moe_replay.traces.command_line.outputs import check_place
from moe_replay.traces.command_line.units import SHARE
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.selections import Trace


@dataclass(frozen=True)
class GridOptions:
    """What `run` takes the cross product of, and what all of its runs share."""

    scheduler: options.Scheduler = "queues"
    queue_size: options.QueueSize = "1"
    dense_queue_size: options.DenseQueueSize = None
    max_step: options.MaxStep = None
    timeout_ns: options.Timeout = None
    arrivals: options.ArrivalProcess = "all"
    in_flight: options.InFlight = None
    load: options.Load = None
    rate: options.Rate = None
    speed: options.Speed = None
    k: options.K = None
    sequences: options.Sequences = None
    replications: options.Replications = 1
    no_dense: options.NoDense = False
    devices: options.Devices = 1
    placement: options.Placement = "contiguous"

    def grid(self) -> RunGrid:
        """Return the grid; InputError for what is no list of numbers."""
        fixed = {
            "dense_queue_size": self.dense_queue_size, "timeout_ns": self.timeout_ns,
            "arrivals": self.arrivals, "sequences": self.sequences, "dense": not self.no_dense,
            "devices": self.devices, "placement": self.placement,
        }  # fmt: skip
        return RunGrid(
            fixed={name: value for name, value in fixed.items() if value is not None},
            schedulers=self.scheduler.split(","),
            queue_sizes=command.numbers(self.queue_size, "--queue-size"),
            max_steps=command.listed(self.max_step, "--max-step") or [None],
            in_flight=command.listed(self.in_flight, "--in-flight"),
            loads=SHARE.listed(self.load, "--load", 1e-9) if self.load else [],
            rates_per_s=command.listed(self.rate, "--rate", 1e-9, float),
            ks=command.listed(self.k, "--k") or [None], seeds=command.seeds(self.replications),
            speeds=command.listed(self.speed, "--speed", 1e-9, float),
        )  # fmt: skip


@grouped
def run_command(
    trace_path: options.TracePath, out: options.Out, cost: options.DrawnCostOptions, swept: GridOptions,
    cluster: ClusterOptions, running: options.RunningOptions,
) -> None:  # fmt: skip
    """Simulate the cross product of all lists.

    Devices that are linked (`--links`) exchange tokens; without links communication is not modelled.

    Example: `python -m simulate run wide.trace.parquet --costs costs.parquet --queue-size 1,8,64 --arrivals closed
    --in-flight 64,512 --replications 3 --out simulated`

    Example: `python -m simulate run wide.trace.parquet --affine 20000,2000 --scheduler lockstep --arrivals steps
    --devices 8 --nodes 2 --links h800-ndr --micro-batches 1,2 --dispatch-bytes 2112 --combine-bytes 4096 --out linked`
    """
    sweep = swept.grid()
    check_place(out, [trace_path, cost.costs], folder=True)
    trace, cost_model = load_trace(trace_path), cost.read()
    configs = sweep.configs(capacities(sweep, trace, cost_model) if sweep.loads else {})
    configs = cluster.linked(configs, trace.header.model)
    runs = new_runs(trace, cost_model, out, configs, engine=running.engine, force=running.force)
    report(runs, {config.name: config for config in configs}, running.jobs)


def capacities(sweep: RunGrid, trace: Trace, costs: CostModel) -> dict[int | None, float]:
    """Return the capacity at the largest queue size for every k that is swept."""
    largest, dense = max(sweep.queue_sizes), sweep.fixed["dense"]
    where = sweep.fixed["devices"], sweep.fixed["placement"]
    cost = replace(costs, resampled=False).cost(rng=None)
    if dense:
        costs.check_dense(trace.L)
    workloads = {k: trace_workload(trace, RunConfig(k=k)) for k in sweep.ks}
    return {k: capacity_per_s(workload, cost, largest, dense, *where) for k, workload in workloads.items()}
