"""The queues: what "queue size B" means, by the rules of simulate/README.md ("Queues")."""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING

from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.scheduler import Scheduler

if TYPE_CHECKING:
    import numpy as np

    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.simulate.config.workload import Workload
    from moe_replay.simulate.policies.memory.expert_memory import ExpertMemory


class QueueScheduler(Scheduler):
    """One FIFO queue per block; a queue is ready with B members, or when its head has waited the time-out.

    An expert's queue holds selections (token numbers), a dense queue whole passes. A free device takes the first
    ready queue and binds min(B, length) members then, not earlier (late binding).
    """

    def __init__(
        self, workload: Workload, device_LB: np.ndarray, config: RunConfig, memory: ExpertMemory | None = None
    ) -> None:
        super().__init__(workload, device_LB, config, memory)
        self.size = config.queue_size
        self.dense_size = config.dense_queue_size or config.queue_size
        self.timeout_ns = config.timeout_ns
        # Plain lists and numbers instead of objects: a run looks into them at every selection.
        self.queues: list[deque[int]] = [deque() for _ in self.device_Q]
        self.listed_Q = [False] * len(self.device_Q)  # is in the ready list, or will join it in `join_ready`
        self.forced_Q = [False] * len(self.device_Q)  # the next batch of the queue is forced
        self.joining: list[int] = []  # became ready since the last `join_ready`
        self.timeouts: list[tuple[int, int]] = []  # heap of (due, queue); entries go stale when their head is bound
        self.heads: dict[int, list[tuple[int, int]]] = {}  # by device, heaps of (when a head entered, queue), likewise
        self.stage_P = [-1] * workload.passes
        self.left_P = [0] * workload.passes  # selections of the present stage that are not done
        self.entered_ns_P = [0] * workload.passes  # when the pass entered its present stage, with all its members

    @property
    def waiting(self) -> int:
        """The number of members in queues."""
        return sum(map(len, self.queues))

    def admit(self, passes: list[int], now: int) -> list[int]:
        """Put arriving passes into the queues of their first stage."""
        self.present += len(passes)
        # A pass may have no members in its first stages (no dense blocks, no route): it enters the next that has some.
        moved, finished = self.advance(passes)
        self.enqueue(moved, now)
        return finished

    def retire(self, batch: Batch) -> tuple[list[int], list[int]]:
        """Count a completed batch's members as done; a pass whose last selection is done moves on."""
        # A dense block has one member per pass, so that its end is the end of the pass's stage.
        if not batch.block:
            return self.advance(batch.members)
        left_P, pass_N, done = self.left_P, self.pass_N, []
        for token in batch.members:
            p = pass_N[token]
            left_P[p] -= 1
            if not left_P[p]:
                done.append(p)  # in the order of the members, which is the order in which they queue next
        return self.advance(done)

    def advance(self, passes: list[int]) -> tuple[list[int], list[int]]:
        """Move passes to their next stage that has members; return (passes that have one, passes that finish)."""
        moved, finished = [], []
        for p in passes:
            stage, members_S = self.stage_P[p] + 1, self.members_PS[p]
            # Stages without members take no time and no batch: the pass goes through them at once.
            while stage < self.stages and not members_S[stage]:
                stage += 1
            if stage < self.stages:
                self.stage_P[p] = stage
                self.left_P[p] = members_S[stage]
                moved.append(p)
            else:
                finished.append(p)
        self.present -= len(finished)
        return moved, finished

    def enqueue(self, passes: list[int], now: int) -> None:
        """Append the members of passes to the queues of their stage: tokens in row order, selections in rank order."""
        for p in passes:
            self.entered_ns_P[p] = now
            layer, experts_run = divmod(self.stage_P[p], 2)
            if experts_run:
                self._enqueue_selections(p, layer, now)
            else:
                queue = layer * self.width
                # A dense block runs once for all tokens of a pass: the pass itself is the member.
                self.queues[queue].append(p)
                self._grown(queue, len(self.queues[queue]), self.dense_size, now)

    def _enqueue_selections(self, p: int, layer: int, now: int) -> None:
        # Masked gating decides when a pass enters a layer; the experts that run are pinned from then on.
        if self.masked and not self._mask(p, layer, now):
            return
        queues, size = self.queues, self.size
        for token, joined in enumerate(self.rows_of(p, layer), self.token_offset_P[p]):
            for queue in joined:
                members = queues[queue]
                members.append(token)
                length = len(members)
                if length == size or length == 1:  # the only lengths at which something can change
                    self._grown(queue, length, size, now)
        # After the members have queued: demands of this group come before what is loaded ahead of the next.
        self.note_group([p], layer)

    def _mask(self, p: int, layer: int, now: int) -> bool:
        """Let masked gating choose a pass's experts; where it leaves none the pass moves on, and False is returned."""
        self.left_P[p] = self.route(p, layer, now)
        if self.left_P[p]:
            return True
        moved, finished = self.advance([p])
        self.emptied += finished
        # At once, not in a further round: a layer that runs nothing takes no time.
        self.enqueue(moved, now)
        return False

    def _grown(self, queue: int, length: int, size: int, now: int) -> None:
        """Note a queue that reached B, or one that got a head whose time-out starts now."""
        if length == 1:
            self._note_head(now, queue)
        # Exactly B, so that a queue joins once, however many members follow before it is served.
        if length == size:
            if not self.listed_Q[queue]:
                self._make_ready(queue)
        # The time-out is the head's: members behind it have entered later and wait for less.
        elif length == 1 and self.timeout_ns is not None:
            heapq.heappush(self.timeouts, (now + self.timeout_ns, queue))

    def _make_ready(self, queue: int) -> None:
        self.listed_Q[queue] = True
        # Not into the ready list yet: what becomes ready at one instant joins in ascending order, not as it came.
        self.joining.append(queue)

    def time_out(self, now: int) -> None:
        """Make the queues ready whose head has waited the time-out."""
        timeouts = self.timeouts
        # A heap gives equal times by queue; all of them join below in ascending order anyway.
        while timeouts and timeouts[0][0] <= now:
            due_ns, queue = heapq.heappop(timeouts)
            if self._is_pending(due_ns, queue):
                self._make_ready(queue)

    def join_ready(self, now: int) -> None:
        """Let the queues that became ready join the ready lists, ascending (layer, block)."""
        self.joining.sort()  # whatever order completions and arrivals came in
        for queue in self.joining:
            self.join(queue, now)
        self.joining.clear()

    def _is_pending(self, due_ns: int, queue: int) -> bool:
        """Say whether a time-out is still that of the queue's head, and the queue not ready for another reason."""
        # Entries of heads that were bound stay in the heap: to look for them there would cost more than to skip them.
        return not self.listed_Q[queue] and bool(self.queues[queue]) and self._head_due(queue) == due_ns

    def bind(self, queue: int, now: int) -> Batch:
        """Bind the first min(B, length) members of a queue."""
        waiting = self.queues[queue]
        size = self.size if queue % self.width else self.dense_size
        # The usual case, taken whole: that is quicker than member by member.
        if len(waiting) <= size:
            members = list(waiting)
            waiting.clear()
        else:
            members = [waiting.popleft() for _ in range(size)]
        batch = self.new_batch(queue, members, now)
        batch.forced, self.forced_Q[queue] = self.forced_Q[queue], False
        self.listed_Q[queue] = False  # it may join again at once: see `rejoin`
        return batch

    def rejoin(self, queue: int, now: int) -> None:
        """Let a queue with members left over rejoin the list's end if it is ready, or wait for its head's time-out."""
        length, size = len(self.queues[queue]), self.size if queue % self.width else self.dense_size
        if not length:
            return
        self._note_head(self._head_entered(queue), queue)
        # What is ready already goes to the end of the list, so that one full queue does not keep the device to itself.
        if length >= size or (self.timeout_ns is not None and self._head_due(queue) <= now):
            self.listed_Q[queue] = True
            self.join(queue, now)
        elif self.timeout_ns is not None:
            heapq.heappush(self.timeouts, (self._head_due(queue), queue))

    def _head_entered(self, queue: int) -> int:
        """Return when the head of a queue began to wait."""
        head = self.queues[queue][0]
        return self.entered_ns_P[self.pass_N[head] if queue % self.width else head]

    def _head_due(self, queue: int) -> int:
        return self._head_entered(queue) + self.timeout_ns

    def deadline(self) -> int | None:
        """Return the time of the next time-out, None where none is pending."""
        # A stale entry would make the driver wake up for nothing.
        while self.timeouts and not self._is_pending(*self.timeouts[0]):
            heapq.heappop(self.timeouts)
        return self.timeouts[0][0] if self.timeouts else None

    def force(self, now: int) -> None:
        """The stall rule: on every device the queue whose head waited longest becomes ready (ties: lowest queue)."""
        # The heaps know of members that this class has queued, and of no others.
        if type(self) is QueueScheduler:
            longest = [oldest for heap in self.heads.values() for oldest in self._oldest(heap)]
        else:  # rules of a user's own may change queues as they like
            longest = self._oldest_of_all()
        for queue in longest:
            self.forced_Q[queue] = True
            self._make_ready(queue)

    def _oldest(self, heap: list[tuple[int, int]]) -> list[int]:
        """Return the queue whose head waited longest, after dropping the entries of heads that were bound."""
        while heap:
            entered_ns, queue = heap[0]
            # A head that was bound leaves its entry behind; it is found out by its time.
            if self.queues[queue] and self._head_entered(queue) == entered_ns:
                return [queue]
            heapq.heappop(heap)
        return []

    def _oldest_of_all(self) -> list[int]:
        longest: dict[int, tuple[int, int]] = {}
        for queue, waiting in enumerate(self.queues):
            if waiting:
                # The queue's number second: of heads that have waited equally long the lowest queue is forced.
                candidate, device = (self._head_entered(queue), queue), self.device_Q[queue]
                longest[device] = min(candidate, longest.get(device, candidate))
        return [queue for _, queue in longest.values()]

    def _note_head(self, entered_ns: int, queue: int) -> None:
        """Note when a queue's new head entered; entries of heads that are gone go before they outnumber the others."""
        device = self.device_Q[queue]
        heap = self.heads.setdefault(device, [])
        # Without this a long run without a stall would keep an entry for every head it ever had.
        if len(heap) > 4 * len(self.queues):
            waiting = (each for each, members in enumerate(self.queues) if members and self.device_Q[each] == device)
            heap[:] = [(self._head_entered(each), each) for each in waiting]
            heapq.heapify(heap)
        heapq.heappush(heap, (entered_ns, queue))
