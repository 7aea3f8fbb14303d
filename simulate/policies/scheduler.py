"""What every scheduler shares: devices with their ready lists, and the way of a pass through its stages.

A driver (the SimPy engine or a real executor) knows the time; a scheduler is told it. `simulate.policies.instant`
says in which order a driver's one instant calls these methods.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.caches.cache import Access
from moe_replay.simulate.policies.memory.knowledge import Group

if TYPE_CHECKING:
    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.simulate.config.workload import Workload
    from moe_replay.simulate.policies.cluster.ports import Message
    from moe_replay.simulate.policies.memory.expert_memory import ExpertMemory
    from moe_replay.simulate.policies.memory.host_link import Transfer


class Scheduler:
    """Base class: knows the stages of every pass and which device is free; a subclass decides what becomes ready.

    `running` counts the batches that run, `present` the passes that were admitted and have not finished. While
    `present > 0` and `running == 0`, members wait in some queue, or for a transfer of `memory` (None: all experts are
    resident). The last device is the host server, which has no blocks of its own.
    """

    in_order: ClassVar[bool] = False  # True: the experts of a stage run ascending, each waits for its own weights
    messages: list[Message] | None = None  # what devices sent each other; None where that is not modelled

    def __init__(
        self, workload: Workload, device_LB: np.ndarray, config: RunConfig, memory: ExpertMemory | None = None
    ) -> None:
        self.memory, self.masked = memory, memory is not None and memory.masked
        self.hands_out = memory is not None and memory.hands_out  # misses ask when their queue becomes ready
        self.width = workload.experts + 1  # queue number = layer * width + block: ascending (layer, block)
        # As lists: Python reads single numbers out of a list several times faster than out of an array.
        self.device_Q = device_LB.ravel().tolist()
        self.ready_ns_Q = [0] * len(self.device_Q)
        self.host = config.devices  # the number of the host server
        # The host server has a list and a place among the devices, and is served last.
        self.ready_D = [deque() for _ in range(config.devices + 1)]  # a device looks at its own list only
        self.free_D = [True] * (config.devices + 1)
        self.running = self.present = 0
        self.first_row_P = workload.first_row_P.tolist()
        self.tokens_P = workload.tokens_P.tolist()
        self.token_offset_P = workload.token_offset_P.tolist()
        self.pass_N = workload.pass_N.tolist()
        self.sequence_P = workload.sequence_P.tolist()
        self.members_PS = members_of_stages(workload, config.dense)
        self.stages = len(self.members_PS[0])
        self.route_LT = routes(workload)
        self.emptied: list[int] = []  # passes that finished because masked gating left them no member
        self.routed: dict[int, list[list[int]]] = {}  # masked gating: the queues that a pass's tokens join at present

    def admit(self, passes: list[int], now: int) -> list[int]:
        """Take arriving passes in; return those that finish at once, because they have no members in any stage."""
        raise NotImplementedError

    def retire(self, batch: Batch) -> tuple[list[int], list[int]]:
        """Return (passes that move on to their next stage, passes that finish) after a completed batch.

        Needs no time and leaves the device taken: an executor works out the successors before it reads its clock, and
        then plays what fell due earlier than that reading.
        """
        raise NotImplementedError

    def enqueue(self, passes: list[int], now: int) -> None:
        """Put passes that moved on into the queues of their present stage."""
        raise NotImplementedError

    def time_out(self, now: int) -> None:
        """Make the queues ready whose head has waited the time-out."""

    def join_ready(self, now: int) -> None:
        """Let the queues that became ready join the ready lists."""
        raise NotImplementedError

    def deadline(self) -> int | None:
        """Return the time of the next time-out, None where none is pending."""
        return None

    def force(self, now: int) -> None:
        """Make queues ready by the stall rule; they join the ready list when `join_ready` is called next."""
        raise RuntimeError(f"{type(self).__name__} stalled: no batch runs and nothing is pending, yet passes wait")

    def join(self, queue: int, now: int) -> None:
        """Put a ready queue at the end of its device's ready list, or, where the host computes misses, of the host's.

        Where misses are handed out with their stage its expert is accessed now; a queue whose expert has to come first
        is in no list until it is there.
        """
        self.ready_ns_Q[queue] = now  # kept for the record: a batch says how long its queue was ready
        server = self.device_Q[queue]
        if self.hands_out and queue % self.width:  # dense blocks are always resident
            met = self.memory.hand_out(queue, now)
            # Its weights are on the way: no device looks at it before they are here.
            if queue in self.memory.parked:
                return
            # Here only where the host computes misses: a miss that is loaded has been parked.
            if met is Access.MISS:
                server = self.host
        self.ready_D[server].append(queue)

    def start_batches(self, now: int) -> list[Batch]:
        """Let every free device, ascending, take the first ready queue that it can run.

        Members that the host's batch leaves behind may be a device's to run: then devices take once more.
        """
        started: list[Batch] = []
        while True:
            before = len(started)
            # The host comes last, so that devices have had their choice when it takes what is absent.
            for device, ready in enumerate(self.ready_D):
                if ready and self.free_D[device]:
                    queue = self._take(device, ready, now)
                    # A list that is not empty may hold nothing that can run: the weights are on their way.
                    if queue is not None:
                        self.free_D[device] = False
                        self.running += 1
                        started.append(self._start(queue, device, now))
            # Only the host's batch can leave members behind that another server may run at this instant.
            if len(started) == before or started[-1].device != self.host:
                return started

    def _take(self, device: int, ready: deque[int], now: int) -> int | None:
        # Where every ready queue can run, first come first served is all there is to decide.
        if self.memory is None or self.masked or device == self.host:
            return ready.popleft()
        return self.memory.take(ready, now)

    def _start(self, queue: int, device: int, now: int) -> Batch:
        batch = self.bind(queue, now)
        batch.device = device
        if batch.block and self.memory is not None:
            # Before `rejoin`, which looks whether the expert runs.
            self.memory.bound(batch)
        self.rejoin(queue, now)
        return batch

    def rows_of(self, p: int, layer: int) -> list[list[int]]:
        """Return the queues that each token of a pass joins in a layer, in rank order."""
        if self.masked:  # what runs was decided when the pass entered the layer, and is not what the trace says
            return self.routed[p]
        first = self.first_row_P[p]
        return self.route_LT[layer][first : first + self.tokens_P[p]]

    def route(self, p: int, layer: int, now: int) -> int:
        """Masked gating decides which experts a pass runs in a layer; return how many selections are left."""
        self.routed[p] = self.memory.route(layer, self.first_row_P[p], self.tokens_P[p], now)
        return sum(map(len, self.routed[p]))

    def note_group(self, passes: list[int], layer: int) -> None:
        """Tell prefetchers which experts passes have selected together in a layer."""
        # Nobody looks at groups then, and to gather them takes time.
        if self.memory is None or not self.memory.prefetches:
            return
        queues = {queue for p in passes for row in self.rows_of(p, layer) for queue in row}
        # -1 where several sequences run together: a prefetcher then has no one's past to go by.
        sequence = self.sequence_P[passes[0]] if len(passes) == 1 else -1
        self.memory.enter(Group(layer, sequence, tuple(sorted(map(self.memory.key_of, queues)))))

    def ask_ahead(self, now: int) -> None:
        """Let the memory's scheduler and prefetcher ask for experts before they are demanded."""
        if self.memory is not None:
            self.memory.ask_ahead(now)

    def begin_transfers(self, now: int) -> list[Transfer]:
        """Return the transfers that the links begin now."""
        return self.memory.begin_transfers(now) if self.memory is not None else []

    def arrived(self, transfer: Transfer, now: int) -> None:
        """Note that a transfer is there."""
        self.memory.arrived(transfer, self.ready_D, now)

    def deliver(self, now: int) -> list[int]:
        """Let messages between devices happen that are due now; return the passes that finish with them."""
        return []

    def begin_messages(self, now: int) -> None:
        """Let free ports take their first messages."""

    def next_message(self) -> int | None:
        """Return when something happens to a message next, None where none is under way."""
        return None

    def bind(self, queue: int, now: int) -> Batch:
        """Bind members of a ready queue to a batch that starts now."""
        raise NotImplementedError

    def rejoin(self, queue: int, now: int) -> None:
        """List a queue again where its batch left members behind."""

    def new_batch(self, queue: int, members: list[int], now: int) -> Batch:
        """Return the batch of these members of a queue."""
        layer, block = divmod(queue, self.width)
        # An expert's member is one token; a dense block runs all tokens of the passes that are its members.
        tokens = len(members) if block else sum(self.tokens_P[p] for p in members)
        return Batch(self.device_Q[queue], layer, block, members, tokens, self.ready_ns_Q[queue], now)

    def release(self, batch: Batch, now: int) -> None:
        """Free the device of a completed batch."""
        self.free_D[batch.device] = True
        self.running -= 1
        if batch.block and self.memory is not None:
            self.memory.released(batch, now)


def members_of_stages(workload: Workload, dense: bool) -> list[list[int]]:
    """Return members_PS: how many members a pass has in each of its 2L+1 stages; 0 where it moves on at once.

    Stage 2l is the dense block of layer l (one member, the pass), stage 2l+1 its experts (the selections). Passes
    with equal rows share one list: there are few distinct ones.
    """
    members_PS = np.zeros((workload.passes, 2 * workload.layers + 1), np.int64)
    members_PS[:, 0::2] = dense
    members_PS[:, 1::2] = workload.selections_PL
    distinct, index_P = np.unique(members_PS, axis=0, return_inverse=True)
    rows = distinct.tolist()
    return [rows[index] for index in index_P.ravel().tolist()]


def routes(workload: Workload) -> list[list[list[int]]]:
    """Return route_LT: the queue numbers of each row's selections in a layer, in rank order, empty slots left out."""
    route_LT = []
    for layer in range(workload.layers):
        experts_TK = workload.experts_TLK[:, layer].astype(np.int64)
        queues = (experts_TK + (1 + layer * (workload.experts + 1))).tolist()
        # An empty slot came out as the dense block's number or less; most traces have none, and need no second look.
        if (experts_TK < 0).any():
            base = layer * (workload.experts + 1)
            queues = [[queue for queue in row if queue > base] for row in queues]
        route_LT.append(queues)
    return route_LT
