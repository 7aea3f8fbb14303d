"""The SimPy reference engine: one event per arrival instant, per batch and per time-out, none per token."""

from __future__ import annotations

from dataclasses import replace

import simpy

from moe_replay.simulate.config.costs import Cost, checked_ns
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.horizon import too_long
from moe_replay.simulate.policies.instant import Replay
from moe_replay.simulate.policies.memory.host_link import Transfer
from moe_replay.simulate.policies.memory.knowledge import AccessOrder
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.command_line.number_limits import LAST_NS
from moe_replay.traces.runs.run_records import RunRecords


class Engine:
    """Plays a replay against simulated time, in whole ns of 64 bits; InputError where a run does not end within them.

    Events only note what happened; the last event of an instant plays it, so that everything due at one instant is
    handled together and in the order that `Replay.play` fixes. `transfer_ns` is what a transfer takes, None: what the
    fields of the memory's link say.
    """

    def __init__(
        self, workload: Workload, config: RunConfig, cost: Cost, known: Known | None = None,
        transfer_ns: int | None = None,
    ) -> None:  # fmt: skip
        self.environment = simpy.Environment()
        self.replay = Replay(workload, config, self.launch, self.send, known)
        self.cost, self.memory, self.host = cost, config.memory, config.devices
        # A cost table may have measured what a transfer takes; then that counts, not the link's formula.
        nominal_ns = config.memory.transfer_ns if config.memory is not None else 0
        self.transfer_ns = nominal_ns if transfer_ns is None else transfer_ns
        # What was begun and would end beyond the clock: named in the error if the run gets that far.
        self.late: list[Batch] = []
        self.late_transfers: list[Transfer] = []
        # What has ended in the present instant, collected until the calendar holds nothing more for it.
        self.completed: list[Batch] = []
        self.here: list[Transfer] = []
        self.timeout_ns = config.timeout_ns
        self.planned_ns: int | None = None  # when the next wake-up for an arrival or a time-out is in the calendar

    def run(self) -> None:
        """Run until every pass has finished."""
        self._plan_wake_up()  # everything else begins with an arrival
        self.environment.run()

    def launch(self, batch: Batch) -> bool:
        """Put the completion of a batch into the calendar; return True if it takes no time."""
        service_ns = self.cost(batch.layer, batch.block, batch.tokens)
        # Called for every batch: a whole number in range, the usual answer, needs no further check.
        if type(service_ns) is not int or service_ns < 0:
            service_ns = checked_ns(service_ns, batch.layer, batch.block, batch.tokens)
        if batch.device == self.host:
            # The factor may take a float beyond 64 bits, where it would round to a number that no record holds.
            on_host_ns = service_ns * self.memory.host_factor
            service_ns = round(on_host_ns) if on_host_ns < LAST_NS else LAST_NS
        batch.end_ns = batch.start_ns + service_ns
        # A duration of zero makes no event: the replay completes the batch in a further round of this instant.
        if service_ns == 0:
            return True
        if batch.end_ns >= LAST_NS:
            self.late.append(batch)
        # A bare event with a callback: a SimPy process per batch would be three events.
        simpy.Timeout(self.environment, service_ns, batch).callbacks.append(self._complete)
        return False

    def send(self, transfer: Transfer) -> bool:
        """Put the end of a transfer into the calendar; return True if it takes no time."""
        if self.transfer_ns == 0:
            return True
        if self.environment.now + self.transfer_ns >= LAST_NS:
            self.late_transfers.append(transfer)
        simpy.Timeout(self.environment, self.transfer_ns, transfer).callbacks.append(self._arrive)
        return False

    def _arrive(self, event: simpy.Event) -> None:
        self.here.append(event._value)  # as `event.value`, without its check that the event has happened
        self._close_instant()

    def _complete(self, event: simpy.Event) -> None:
        self.completed.append(event._value)
        self._close_instant()

    def _wake_up(self, event: simpy.Event) -> None:
        # A wake-up that an earlier one overtook finds its work done, and is no longer the planned one.
        if self.planned_ns == self.environment.now:
            self.planned_ns = None
        self._close_instant()

    def _close_instant(self) -> None:
        """Play the present instant, unless the calendar holds more events for it."""
        environment = self.environment
        now = environment._now
        # What is due at one instant is played together: the last event of the instant plays it for all.
        if environment.peek() == now:
            return
        # Python's numbers have no limit, those of the records have: the clock ends where 64 bits do.
        if now >= LAST_NS:
            self._refuse_late()
        completed = self.completed
        if len(completed) > 1:
            # SimPy keeps the order in which events were planned; the rules say devices ascending.
            completed.sort(key=lambda batch: batch.device)
        retire = self.replay.rules.retire
        # Successors are worked out before the instant is played, as an executor does while its device is busy.
        retired = [(batch, retire(batch)) for batch in completed]
        completed.clear()
        # A stable sort: transfers of one link stay in the order in which they were asked for.
        here, self.here = sorted(self.here, key=lambda transfer: transfer.link), []
        self.replay.play(now, retired, here)
        self._plan_wake_up()

    def _refuse_late(self) -> None:
        """Raise InputError where what is due beyond the clock is more than a wake-up that nobody waits for any more."""
        self.late.sort(key=lambda batch: batch.device)
        self.late_transfers.sort(key=lambda transfer: transfer.link)
        batches = [(batch.layer, batch.block, batch.tokens, batch.start_ns) for batch in self.late]
        if batches or self.late_transfers or self.replay.next_due() is not None:
            starts = [transfer.start_ns for transfer in self.late_transfers]
            messages = self.replay.rules.next_message() is not None
            raise too_long(batches, starts, self.timeout_ns, messages)

    def _plan_wake_up(self) -> None:
        """Put the next arrival or time-out that is due by itself into the calendar, unless it is there."""
        due_ns = self.replay.next_due()
        # A wake-up that comes too early finds nothing due and changes nothing; only a sooner one needs a new event.
        if due_ns is not None and (self.planned_ns is None or due_ns < self.planned_ns):
            self.planned_ns = due_ns
            delay_ns = due_ns - self.environment.now
            simpy.Timeout(self.environment, delay_ns).callbacks.append(self._wake_up)


def simulate(
    workload: Workload, config: RunConfig, cost: Cost, header: dict, known: Known | None = None,
    transfer_ns: int | None = None,
) -> RunRecords:  # fmt: skip
    """Return the records of a workload served under a configuration, with these costs and this header.

    `cost(layer, block, tokens)` gives the service time of a batch in whole ns. `header` is that of the records; see
    `simulate.policies.run_log.run_header`. `known` is what cache policies and prefetchers know beforehand; the order
    of the accesses, for those that need it and are not given it, is that of a first run with LRU and no prefetches.
    `transfer_ns`: as in `Engine`.
    """
    if config.memory is not None and config.memory.needs_order and (known is None or known.order is None):
        known = replace(known or Known(), order=order_of(workload, config, cost, transfer_ns))
    engine = Engine(workload, config, cost, known, transfer_ns)
    engine.run()
    return engine.replay.recording.records(header)


def order_of(workload: Workload, config: RunConfig, cost: Cost, transfer_ns: int | None = None) -> AccessOrder:
    """Return the accesses and groups of a run, in order, as they are with LRU and no prefetches.

    The run with an optimum or an oracle makes the same ones where its order does not depend on time: in lockstep, or
    where misses block, in a closed loop on one device. Elsewhere it decides by an order that is only close to its own.
    """
    engine = Engine(workload, replace(config, memory=config.memory.plain), cost, transfer_ns=transfer_ns)
    engine.replay.memory.prefetches = True  # groups are announced and recorded; nothing is proposed
    engine.run()
    return engine.replay.memory.order
