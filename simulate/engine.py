"""The SimPy reference engine: one event per arrival instant, per batch and per time-out, none per token."""

from __future__ import annotations

from collections.abc import Callable

import simpy

from simulate.policies.config import RunConfig
from simulate.policies.instant import Replay
from simulate.policies.scheduler import Batch
from simulate.policies.workload import Workload
from traces.run_records import RunRecords

Cost = Callable[[int, int, int], int]  # (layer, block, tokens of the batch) -> service_ns


class Engine:
    """Plays a replay against simulated time, in whole ns.

    Events only note what happened; the last event of an instant plays it, so that everything due at one instant is
    handled together and in the order that `Replay.play` fixes.
    """

    def __init__(self, workload: Workload, config: RunConfig, cost: Cost) -> None:
        self.environment = simpy.Environment()
        self.replay = Replay(workload, config, self.launch)
        self.cost = cost
        self.completed: list[Batch] = []
        self.planned_ns: int | None = None  # when the next wake-up for an arrival or a time-out stands in the calendar

    def run(self) -> None:
        """Run until every pass has finished."""
        self._plan_wake_up()
        self.environment.run()

    def launch(self, batch: Batch) -> bool:
        """Put the completion of a batch into the calendar; return True if it takes no time."""
        service_ns = self.cost(batch.layer, batch.block, batch.tokens)
        batch.end_ns = batch.start_ns + service_ns
        if service_ns == 0:
            return True
        simpy.Timeout(self.environment, service_ns, batch).callbacks.append(self._complete)
        return False

    def _complete(self, event: simpy.Event) -> None:
        self.completed.append(event._value)
        self._close_instant()

    def _wake_up(self, event: simpy.Event) -> None:
        if self.planned_ns == self.environment.now:
            self.planned_ns = None
        self._close_instant()

    def _close_instant(self) -> None:
        """Play the present instant, unless the calendar holds more events for it."""
        environment = self.environment
        now = environment._now
        if environment.peek() == now:
            return
        completed = self.completed
        if len(completed) > 1:
            completed.sort(key=lambda batch: batch.device)
        retire = self.replay.rules.retire
        retired = [(batch, retire(batch)) for batch in completed]
        completed.clear()
        self.replay.play(now, retired)
        self._plan_wake_up()

    def _plan_wake_up(self) -> None:
        """Put the next arrival or time-out that is due by itself into the calendar, unless it stands there."""
        due_ns = self.replay.next_due()
        if due_ns is not None and (self.planned_ns is None or due_ns < self.planned_ns):
            self.planned_ns = due_ns
            delay_ns = due_ns - self.environment.now
            simpy.Timeout(self.environment, delay_ns).callbacks.append(self._wake_up)


def simulate(workload: Workload, config: RunConfig, cost: Cost, header: dict) -> RunRecords:
    """Return the records of a workload served under a configuration, with these costs and this header.

    `cost(layer, block, tokens)` gives the service time of a batch in whole ns. `header` is that of the records; see
    `simulate.policies.recording.run_header`.
    """
    engine = Engine(workload, config, cost)
    engine.run()
    return engine.replay.recording.records(header)
