"""One instant of a run, in the order of simulate/README.md ("Time"). Simulation and execution both play it.

A driver knows the time and what a batch takes: it calls `Replay.play` at every instant at which something is due,
and is told through `launch` which batches start. This module and the policies decide everything else about a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.policies.arrivals import new_arrivals
from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.memory.host_link import Transfer
from moe_replay.simulate.policies.memory.memory_setup import Known, new_memory
from moe_replay.simulate.policies.placement import place
from moe_replay.simulate.policies.run_log import Recording
from moe_replay.simulate.policies.scheduler_names import SCHEDULERS

Retired = tuple[list[int], list[int]]  # what Scheduler.retire returns: (passes that move on, passes that finish)
Completed = tuple[Batch, Retired]


class Replay:
    """One run of a workload under a configuration: its rules, its arrivals and what is recorded of them.

    `launch(batch)` is called for every batch that starts, in order; the driver sets `batch.end_ns` by the time the
    batch completes. It returns True if the batch has completed already (a duration of zero), otherwise a false value.
    `send(transfer)` is the same for every transfer that a link begins; `known` is what its policies may know.
    """

    def __init__(
        self, workload: Workload, config: RunConfig, launch: Callable[[Batch], bool | None],
        send: Callable[[Transfer], bool | None] | None = None, known: Known | None = None,
    ) -> None:  # fmt: skip
        # Where blocks are is decided once: placement does not change during a run.
        device_LB = place(config.placement, workload.layers, workload.experts, config.devices)
        self.memory = new_memory(workload, device_LB, config, known) if config.memory is not None else None
        self.rules = SCHEDULERS[config.scheduler](workload, device_LB, config, self.memory)
        self.arrivals = new_arrivals(workload, config)
        self.recording = Recording(workload, self.memory)
        self.launch, self.send = launch, send

    def play(self, now: int, completed: Sequence[Completed] = (), here: Sequence[Transfer] = ()) -> None:
        """Play the instant `now`. `completed`: its batches with what `rules.retire` returned, devices ascending.

        `here`: the transfers that are complete, links ascending. A round is the list of simulate/README.md ("Time");
        what a round creates at the same instant is handled in a further round.
        """
        rules, recording = self.rules, self.recording
        # Planned arrivals belong to the first round; later rounds bring the passes that ends have released.
        arriving = self.arrivals.due(now)
        while True:
            finished = []
            for batch, (moved, done) in completed:  # (1) completions
                # Device by device: what an earlier device's end releases queues before what a later one's does.
                rules.release(batch, now)
                rules.enqueue(moved, now)
                finished += done  # recorded together at the end of the round, behind those that end without a batch
            for transfer in here:  # (2) transfers
                transfer.end_ns = now
                rules.arrived(transfer, now)
            if arriving:  # (3) arrivals
                recording.arrived(arriving, now)
                finished += rules.admit(arriving, now)
            started = rules.settle(now)  # (4) time-outs, (5) ready queues join a list, (6) free devices take
            recording.batches += started
            # A batch that takes no time completes at this instant: its end is played in the next round.
            completed = [(batch, rules.retire(batch)) for batch in started if self.launch(batch)]
            # Passes that masked gating left nothing to run; they end here, although no batch of theirs did.
            emptied, rules.emptied = rules.emptied, []
            finished += emptied
            arriving = self._leave(finished, now) if finished else ()
            # Last, because a demand of this round goes before everything that is loaded ahead.
            here = [transfer for transfer in rules.begin_transfers(now) if self.send(transfer)]  # (7) links begin
            # Whatever was created at this instant is played before time goes on.
            if completed or arriving or here or emptied:
                continue
            # Only here can a stall be told: all that is due has been played, and nothing runs.
            if not self.is_stalled():
                return
            rules.force(now)

    def _leave(self, finished: list[int], now: int) -> list[int]:
        """Record that passes finished; return the passes that their end releases."""
        self.recording.finished(finished, now)
        if self.memory is not None:
            self.memory.finished(len(finished))  # SwapMoE counts passes to the end of a period
        return self.arrivals.after(finished)

    def is_stalled(self) -> bool:
        """Say whether passes wait although nothing runs and no transfer, arrival or time-out is pending."""
        rules = self.rules
        # Cheapest first: asked at the end of every instant, and mostly answered by the first two.
        if rules.running or not rules.present or (self.memory is not None and self.memory.pending):
            return False
        return self.next_due() is None

    def next_due(self) -> int | None:
        """Return when the next arrival or time-out is due by itself, None where neither is pending."""
        deadline, arrival = self.rules.deadline(), self.arrivals.next_ns
        if deadline is None or arrival is None:
            return arrival if deadline is None else deadline
        return min(deadline, arrival)
