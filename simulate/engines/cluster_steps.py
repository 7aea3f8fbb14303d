"""Single steps over linked devices, each begun when all of them are idle: how long it takes."""

from __future__ import annotations

from moe_replay.simulate.compiled.machine_code import nothing_collected
from moe_replay.simulate.config.costs import Cost
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.engines.engine_choice import engine_for
from moe_replay.simulate.engines.simpy_engine import simulate as simulate_by_simpy


class ClusterSteps:
    """Gives the times of steps under one configuration; either engine gives the same.

    `config` asks for linked devices; its arrivals and largest step mean nothing here.
    """

    def __init__(self, config: RunConfig, cost: Cost, engine: str = "auto") -> None:
        self.config, self.cost = config, cost
        self.compiled = engine_for(engine, config) == "compiled"
        self.run = None  # the compiled cluster, made of the first step and kept: making it takes longer than a step

    def step_ns(self, workload: Workload) -> int:
        """Return how long one step of all passes of a workload takes, ns; InputError where 64 bits do not hold it."""
        if not self.compiled:
            return int(simulate_by_simpy(workload, self.config, self.cost, {}).passes["end_ns"].max())
        if self.run is None:
            with nothing_collected():
                from moe_replay.simulate.engines.compiled_cluster import ClusterRun  # imports numba
            self.run = ClusterRun(workload, self.config, self.cost)
        return self.run.step_ns(workload)
