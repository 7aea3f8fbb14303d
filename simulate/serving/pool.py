"""Pools of devices that serve sequences step by step, on one clock: one for everything, or prompts apart from decoding.

At one instant: steps end, pools in order; what is sent from pool to pool is delivered; sequences arrive; pools begin
steps, in order; free ports take. What this creates at the same instant is handled in a further round.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from moe_replay.simulate.serving.composition import Engine, Part, Sequence
from moe_replay.simulate.serving.kv_transfer import KvTransfer
from moe_replay.simulate.serving.step_clocks import StepClock
from moe_replay.traces.command_line.number_limits import LAST_NS
from moe_replay.traces.errors import InputError


@dataclass(eq=False)
class Pool:
    """Devices that run one step after another; `prompts_only`: a sequence leaves when its prompt is computed."""

    engine: Engine
    step_ns: StepClock
    prompts_only: bool = False
    waiting: deque[int] = field(default_factory=deque)
    running: list[int] = field(default_factory=list)
    step: list[Part] = field(default_factory=list)
    end_ns: int | None = None  # of the step that is under way

    def leaves_at(self, each: Sequence) -> int:
        """Return how many rows of a sequence are computed when it leaves."""
        return each.prompt if self.prompts_only else len(each.rows)

    def put_together(self, sequences: list[Sequence]) -> list[Part]:
        """Return the next step, in the order in which the sequences joined; empty where nobody is there."""
        taken, budget = self._take_running(sequences)
        while self.waiting and len(self.running) < self.engine.most_running:
            count = sequences[self.waiting[0]].next(budget, self.engine.chunk)
            if not count:
                break
            self.running.append(self.waiting.popleft())
            taken[self.running[-1]] = count
            budget -= count
        step = []
        for member in self.running:
            if count := taken.get(member):
                each = sequences[member]
                step.append((member, each.rows[each.done : each.done + count]))
        return step

    def _take_running(self, sequences: list[Sequence]) -> tuple[dict[int, int], int]:
        """Return ({sequence: rows it takes}, budget left): those that decode first, then prompts that were begun."""
        taken, budget = {}, self.engine.token_budget
        decodes = [member for member in self.running if sequences[member].done >= sequences[member].prompt]
        for member in (*decodes, *(each for each in self.running if each not in decodes)):
            taken[member] = sequences[member].next(budget, self.engine.chunk)
            budget -= taken[member]
        return taken, budget


@dataclass(frozen=True)
class Step:
    """A step that was run: by which pool, when, and its parts."""

    pool: int
    start_ns: int
    end_ns: int
    parts: list[Part]


class Service:
    """Serves sequences that arrive at given times, by one pool or by a pool for prompts and one for decoding.

    `transfer` carries what was computed of a prompt to the second pool; None: it takes no time. When all are served
    `steps` are those that were run, `first_ns_G` and `end_ns_G` when each sequence's first and last token was there,
    and `joined_ns_G` when the second pool had its prompt (-1: it never went there).
    """

    def __init__(
        self, sequences: list[Sequence], arrival_ns_G: np.ndarray, pools: list[Pool], transfer: KvTransfer | None = None
    ) -> None:
        self.sequences, self.pools, self.transfer = sequences, pools, transfer
        self.arriving = deque(enumerate(arrival_ns_G.tolist()))
        self.steps: list[Step] = []
        self.first_ns_G, self.end_ns_G, self.joined_ns_G = (np.full(len(sequences), -1) for _ in range(3))

    def run(self, advance: Callable[[int], object] = lambda rows: None) -> int:
        """Serve all; return when the last step ends. `advance(rows)` is called after every step."""
        while (now := self._next_due()) is not None:
            for pool in self.pools:
                if pool.end_ns == now:
                    self._end_step(pool, now, advance)
            if self.transfer is not None:
                for member in self.transfer.delivered(now):
                    self._join_second(member, now)
            while self.arriving and self.arriving[0][1] <= now:
                member, _ = self.arriving.popleft()
                # Without a prompt there is nothing for a pool of prompts to do.
                self.pools[0 if self.sequences[member].prompt else -1].waiting.append(member)
            for number, pool in enumerate(self.pools):
                self._begin_step(number, pool, now)
            if self.transfer is not None:
                self.transfer.take(now)
        return max(step.end_ns for step in self.steps)

    def _next_due(self) -> int | None:
        due = [pool.end_ns for pool in self.pools]
        due += [self.arriving[0][1] if self.arriving else None, self.transfer.next_ns if self.transfer else None]
        return min((each for each in due if each is not None), default=None)

    def _begin_step(self, number: int, pool: Pool, now: int) -> None:
        """Let a pool that is free begin its next step."""
        if pool.end_ns is not None or not (pool.running or pool.waiting):
            return
        pool.step = pool.put_together(self.sequences)
        pool.end_ns = now + pool.step_ns(pool.step)
        if pool.end_ns >= LAST_NS:
            raise InputError(f"the clock would pass {LAST_NS:,} ns in step {len(self.steps)}; allowed: shorter steps")
        self.steps.append(Step(number, now, pool.end_ns, pool.step))

    def _end_step(self, pool: Pool, now: int, advance: Callable[[int], object]) -> None:
        """Note what the step of a pool has computed; who has all rows that this pool computes leaves."""
        pool.end_ns = None
        for member, rows in pool.step:
            each = self.sequences[member]
            each.done += len(rows)
            if self.first_ns_G[member] < 0 and each.done >= max(each.prompt, 1):
                self.first_ns_G[member] = now
            if each.done == pool.leaves_at(each):
                pool.running.remove(member)
                self._leave(member, now)
        advance(sum(len(rows) for _, rows in pool.step))

    def _leave(self, member: int, now: int) -> None:
        """A sequence leaves a pool: it has its last token, or goes to the second pool."""
        each = self.sequences[member]
        if each.done == len(each.rows):
            self.end_ns_G[member] = now
        elif self.transfer is None:
            self._join_second(member, now)
        else:
            self.transfer.send(member, each.rows[: each.prompt], each.rows[each.prompt], now)

    def _join_second(self, member: int, now: int) -> None:
        self.joined_ns_G[member] = now
        self.pools[-1].waiting.append(member)
