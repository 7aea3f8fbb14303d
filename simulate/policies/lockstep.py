"""Lockstep, the baseline of every MoE framework: a whole step goes layer by layer, each active expert runs once."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from moe_replay.simulate.policies.batch import Batch
from moe_replay.simulate.policies.scheduler import Scheduler

if TYPE_CHECKING:
    import numpy as np

    from moe_replay.simulate.config.run_config import RunConfig
    from moe_replay.simulate.config.workload import Workload
    from moe_replay.simulate.policies.memory.expert_memory import ExpertMemory


class Lockstep(Scheduler):
    """A free engine takes all waiting passes, at most `max_step`; no pass of the step is ahead of another.

    Within a stage every block with members runs once, with all its members, ascending on each device; the next
    stage begins when the last of them is done. All passes of a step finish together.
    """

    in_order = True

    def __init__(
        self, workload: Workload, device_LB: np.ndarray, config: RunConfig, memory: ExpertMemory | None = None
    ) -> None:
        super().__init__(workload, device_LB, config, memory)
        self.max_step = config.max_step or workload.passes  # without a limit everything that waits
        self.queued: deque[int] = deque()  # passes that wait for a step
        # The passes of the step under way, and the stage that all of them are in.
        self.step: list[int] = []
        self.stage = -1
        self.members: dict[int, list[int]] = {}  # of the present stage, by queue
        self.unfinished = 0  # batches of the present stage that have not completed

    @property
    def waiting(self) -> int:
        """The number of passes that wait for a step."""
        return len(self.queued)

    def admit(self, passes: list[int], now: int) -> list[int]:
        """Let arriving passes wait for the next step."""
        # A pass without any member is no part of a step: it would make the engine run empty steps.
        working = [p for p in passes if any(self.members_PS[p])]
        self.queued.extend(working)
        self.present += len(working)
        return [p for p in passes if not any(self.members_PS[p])] if len(working) < len(passes) else []

    def retire(self, batch: Batch) -> tuple[list[int], list[int]]:
        """After the last batch of a stage the whole step moves on, or finishes."""
        self.unfinished -= 1
        # Devices finish at their own times; the stage ends with the last of them.
        if self.unfinished:
            return [], []
        if self._gather_next_stage():
            return self.step, []
        return [], self._end_step()

    def _end_step(self) -> list[int]:
        finished, self.step = self.step, []
        self.present -= len(finished)
        return finished

    def enqueue(self, passes: list[int], now: int) -> None:
        """Make every block that has members in the step's present stage ready."""
        if not passes:
            return
        # Masked gating may leave a stage without members, and the next, and so end the step here.
        if self.masked and not self._mask_stage(now):
            self.emptied += self._end_step()
            return
        queues = sorted(self.members)  # ascending, as the step's experts run
        # Announced before any of them joins, so that members lose their slots to each other last of all.
        if self.memory is not None and self.stage % 2:
            self._announce(queues, now)
        for queue in queues:
            self.join(queue, now)

    def _announce(self, queues: list[int], now: int) -> None:
        """Tell the memory which experts run in this stage, and for which passes."""
        # Masked gating has routed the stage to what is resident: nothing is demanded.
        if not self.masked:
            self.memory.begin_stage(queues, now)
        layer = self.stage // 2
        # The step's passes together are one group: prefetchers see what runs, not who asked for it.
        self.note_group([p for p in self.step if self.members_PS[p][self.stage]], layer)

    def _mask_stage(self, now: int) -> bool:
        """Let masked gating choose the experts of the stage, or of the next that has any; return False if none has."""
        # A stage that is left empty is over at once; the next one may be a dense block, which gating does not concern.
        while self.stage % 2:
            layer = self.stage // 2
            working = [p for p in self.step if self.members_PS[p][self.stage]]
            for p in working:
                self.route(p, layer, now)
            self.members = self._by_expert(working, layer)
            # Counted anew: recorded choices said how many blocks run, masked gating says how many do.
            self.unfinished = len(self.members)
            if self.members:
                return True
            if not self._gather_next_stage():
                return False
        return True

    def join_ready(self, now: int) -> None:
        """Take the waiting passes as the next step if none is under way; the blocks of its first stage join."""
        # A step is formed only when the engine is idle: who arrives later waits for the next one.
        if not self.running and not self.step and self.queued:
            self.step = [self.queued.popleft() for _ in range(min(self.max_step, len(self.queued)))]
            self.stage = -1  # before the first stage, whether or not the first block has members
            self._gather_next_stage()
            self.enqueue(self.step, now)

    def bind(self, queue: int, now: int) -> Batch:
        """Bind all members that a block has in this stage."""
        return self.new_batch(queue, self.members[queue], now)

    def _gather_next_stage(self) -> bool:
        """Sort the step's members of its next stage that has any by block; return False where none follows."""
        for stage in range(self.stage + 1, self.stages):
            working = [p for p in self.step if self.members_PS[p][stage]]
            if working:
                layer, experts_run = divmod(stage, 2)
                if not experts_run:
                    self.members = {layer * self.width: working}
                # Masked gating chooses the members when the stage begins (`_mask_stage`).
                elif not self.masked:
                    self.members = self._by_expert(working, layer)
                self.stage, self.unfinished = stage, len(self.members)
                return True
        return False

    def _by_expert(self, passes: list[int], layer: int) -> dict[int, list[int]]:
        members: dict[int, list[int]] = {}
        for p in passes:
            # Tokens in the order of the step, as a framework gathers them; a batch's members are recorded so.
            for token, queues in enumerate(self.rows_of(p, layer), self.token_offset_P[p]):
                for queue in queues:
                    members.setdefault(queue, []).append(token)
        return members
