"""One instant of a run, in the order that `instant_order` fixes. Simulation and execution both play it.

A driver knows the time and what a batch takes: it calls `Replay.play` at every instant at which something is due,
and is told through `launch` which batches start. This module and the policies decide everything else about a run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import Workload
from moe_replay.simulate.policies.arrivals import new_arrivals
from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.cluster.cluster_lockstep import ClusterLockstep
from moe_replay.simulate.policies.cluster.cluster_queues import ClusterQueues
from moe_replay.simulate.policies.instant_order import STEPS
from moe_replay.simulate.policies.memory.host_link import Transfer
from moe_replay.simulate.policies.memory.memory_setup import Known, new_memory
from moe_replay.simulate.policies.placement import place
from moe_replay.simulate.policies.run_log import Recording
from moe_replay.simulate.policies.scheduler_names import SCHEDULERS

Retired = tuple[list[int], list[int]]  # what Scheduler.retire returns: (passes that move on, passes that finish)
Completed = tuple[Batch, Retired]
LINKED = {"lockstep": ClusterLockstep, "queues": ClusterQueues}  # schedulers of linked devices


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
        self.memory = None
        if config.cluster is None:
            device_LB = place(config.placement, workload.layers, workload.experts, config.devices)
            self.memory = new_memory(workload, device_LB, config, known) if config.memory is not None else None
            self.rules = SCHEDULERS[config.scheduler](workload, device_LB, config, self.memory)
        else:
            self.rules = LINKED[config.scheduler](workload, config)
        self.arrivals = new_arrivals(workload, config)
        self.recording = Recording(workload, self.memory, self.rules.messages)
        self.launch, self.send = launch, send
        # Of the present round: what completes and arrives, and which passes finish (some are left with nothing to run).
        self.completed: Sequence[Completed] = ()
        self.here: Sequence[Transfer] = ()
        self.arriving: Sequence[int] = ()
        self.finished: list[int] = []
        self.emptied: list[int] = []
        # Every step is a method of this class or of the scheduler.
        self.steps = [getattr(self, name, None) or getattr(self.rules, name) for name in STEPS]

    def play(self, now: int, completed: Sequence[Completed] = (), here: Sequence[Transfer] = ()) -> None:
        """Play the instant `now`. `completed`: its batches with what `rules.retire` returned, devices ascending.

        `here`: the transfers that are complete, links ascending. A round is one step after another (`instant_order`);
        what a round creates at the same instant is handled in a further round.
        """
        # Planned arrivals belong to the first round; later rounds bring the passes that ends have released.
        self.completed, self.here, self.arriving = completed, here, self.arrivals.due(now)
        while True:
            for step in self.steps:
                step(now)
            # Whatever was created at this instant is played before time goes on.
            created = self.completed or self.arriving or self.here or self.emptied
            if created or self.rules.next_message() == now:
                continue
            # Only here can a stall be told: all that is due has been played, and nothing runs.
            if not self.is_stalled():
                return
            self.rules.force(now)

    def complete_batches(self, now: int) -> None:
        """Free the devices of completed batches; the passes whose stage they ended move on, or have finished."""
        for batch, (moved, done) in self.completed:
            # Device by device: what an earlier device's end releases queues before what a later one's does.
            self.rules.release(batch, now)
            self.rules.enqueue(moved, now)
            self.finished += done  # recorded together at the end of the round

    def receive_messages(self, now: int) -> None:
        """Let linked devices receive what is delivered; a step may end with it."""
        self.finished += self.rules.deliver(now)

    def receive_experts(self, now: int) -> None:
        """Note the transfers that are complete."""
        for transfer in self.here:
            transfer.end_ns = now
            self.rules.arrived(transfer, now)

    def admit_passes(self, now: int) -> None:
        """Take the passes in that arrive."""
        if self.arriving:
            self.recording.arrived(self.arriving, now)
            self.finished += self.rules.admit(self.arriving, now)

    def start_batches(self, now: int) -> None:
        """Let free devices take; note which of the batches that start have completed already."""
        started = self.rules.start_batches(now)
        self.recording.batches += started
        # A batch that takes no time completes at this instant: its end is played in the next round.
        self.completed = [(batch, self.rules.retire(batch)) for batch in started if self.launch(batch)]

    def leave(self, now: int) -> None:
        """Record the passes that finished in this round, and let those arrive next that their end releases."""
        # Passes that masked gating left nothing to run end here, although no batch of theirs did.
        self.emptied, self.rules.emptied = self.rules.emptied, []
        finished, self.finished = self.finished + self.emptied, []
        self.arriving = []
        if not finished:
            return
        self.recording.finished(finished, now)
        if self.memory is not None:
            self.memory.finished(len(finished))  # SwapMoE counts passes to the end of a period
        self.arriving = self.arrivals.after(finished)

    def begin_transfers(self, now: int) -> None:
        """Let idle links begin; note which transfers are complete already."""
        self.here = [transfer for transfer in self.rules.begin_transfers(now) if self.send(transfer)]

    def is_stalled(self) -> bool:
        """Say whether passes wait although nothing runs and no transfer, message, arrival or time-out is pending."""
        rules = self.rules
        # Cheapest first: asked at the end of every instant, and mostly answered by the first two.
        if rules.running or not rules.present or (self.memory is not None and self.memory.pending):
            return False
        return self.next_due() is None

    def next_due(self) -> int | None:
        """Return when the next arrival, time-out or message is due by itself, None where none is pending."""
        due = self.rules.deadline(), self.rules.next_message(), self.arrivals.next_ns
        return min((each for each in due if each is not None), default=None)
