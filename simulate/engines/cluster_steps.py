"""Single steps over linked devices: how long one takes that begins on idle devices, alone or while experts move.

A step alone is played by either engine. Beside experts that move it is played by the readable rules, on ports that hold
what was sent before the step and keep what is under way behind it.
"""

from __future__ import annotations

import heapq

import numpy as np

from moe_replay.simulate.compiled.machine_code import nothing_collected
from moe_replay.simulate.config.costs import Cost, checked_ns
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.engines.engine_choice import engine_for
from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.cluster.moving_experts import Copy, MovingLockstep, SharedPorts
from moe_replay.traces.command_line.number_limits import LAST_NS
from moe_replay.traces.errors import InputError


def carry_all(ports: SharedPorts, now: int) -> int:
    """Let ports carry what was sent, with nothing else on them; return when all of it is there."""
    ports.take(now)
    while ports.next_ns is not None:
        now = on_the_clock(ports.next_ns)
        ports.due(now)
        ports.take(now)
    return now


class ClusterSteps:
    """Gives the times of steps under one configuration; either engine gives the same.

    `config` asks for linked devices; its arrivals and largest step mean nothing here. `slots_LP` is the expert in every
    slot, -1 in an empty one; None: as the configuration's placement has it.
    """

    def __init__(self, config: RunConfig, cost: Cost, engine: str = "auto", slots_LP: np.ndarray | None = None) -> None:
        self.config, self.cost, self.slots_LP = config, cost, slots_LP
        self.compiled = engine_for(engine, config) == "compiled"
        self.run = None  # the compiled cluster, made of the first step and kept: making it takes longer than a step

    def step_ns(self, workload: Workload) -> int:
        """Return how long one step of all passes of a workload takes, ns; InputError where 64 bits do not hold it."""
        if not self.compiled:
            return self.step_end(workload, SharedPorts(self.config), 0)
        if self.run is None:
            with nothing_collected():
                from moe_replay.simulate.engines.compiled_cluster import ClusterRun  # imports numba
            self.run = ClusterRun(workload, self.config, self.cost, self.slots_LP)
        return self.run.step_ns(workload)

    def step_end(self, workload: Workload, ports: SharedPorts, now: int, awaited: set[Copy] = frozenset()) -> int:
        """Return when a step of all passes ends that begins now, on ports where experts may be under way.

        `awaited` are those of them that slots wait for.
        """
        rules = MovingLockstep(workload, self.config, self.slots_LP, ports, awaited)
        rules.admit(list(range(workload.passes)), now)
        running: list[tuple[int, int, Batch]] = []  # (end, device, batch): one for each device
        if not rules.queued:
            return now
        while True:
            # The rules of `simulate.policies.instant_order`, of which linked devices without arrivals need these.
            while running and running[0][0] == now:
                rules.release(heapq.heappop(running)[2], now)
            if rules.deliver(now):
                return now
            rules.join_ready(now)
            for batch in rules.start_batches(now):
                service_ns = checked_ns(self.cost(batch.layer, batch.block, batch.tokens), batch.layer, batch.block,
                                        batch.tokens)  # fmt: skip
                heapq.heappush(running, (now + service_ns, batch.device, batch))
            rules.begin_messages(now)
            due = [each for each in (running[0][0] if running else None, ports.next_ns) if each is not None]
            now = on_the_clock(min(due))


def on_the_clock(when: int) -> int:
    """Return a time that 64 bits hold; InputError for another."""
    if when >= LAST_NS:
        raise InputError(f"the clock would pass {LAST_NS:,} ns over linked devices; allowed: faster links")
    return when
