"""Masked gating: selections of absent experts go to resident ones, or are dropped (SwapMoE, arXiv 2308.15030)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from moe_replay.simulate.policies.caches.cache import Access
from moe_replay.simulate.policies.memory.expert_memory import ExpertMemory
from moe_replay.simulate.policies.memory.swap_scheduler import Importance, exchanges

if TYPE_CHECKING:
    from moe_replay.simulate.config.memory_config import MemoryConfig
    from moe_replay.simulate.config.workload import Workload
    from moe_replay.simulate.policies.batch import Batch
    from moe_replay.simulate.policies.memory.knowledge import Knowledge


class MaskedMemory(ExpertMemory):
    """What runs is decided when a pass enters the experts of a layer, and stays: its experts are pinned until then.

    `redirect` takes, for every selection of an absent expert in rank order, the best resident recorded candidate that
    the token does not use already; where there is none, and under `skip`, the selection is dropped. A pass and layer
    access each of the experts selected once. `lost_mass` sums 1 - (scores of what runs) / (scores of what was selected)
    over `routed_rows` tokens and layers.

    With a period, the importance of the passes since the last choice decides which experts a cache should hold. They
    come one at a time, cache after cache, while compute goes on; each takes the slot of the least important expert
    that may leave, none if that is more important. A choice replaces what is left of the one before.
    """

    masked: ClassVar[bool] = True

    def __init__(
        self, config: MemoryConfig, device_LB: np.ndarray, knowledge: Knowledge, workload: Workload,
        expert_norm: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        self.worth_K = list(knowledge.importance or [0.0] * (knowledge.layers * knowledge.experts))
        if config.cache == "importance":
            knowledge = replace(knowledge, importance=self.worth_K)  # written anew each period
        super().__init__(config, device_LB, knowledge, ordered=False)
        self.redirects, self.k = config.miss == "redirect", workload.experts_TLK.shape[2]
        self.candidates_LTK = workload.candidates_TLK.transpose(1, 0, 2).tolist()
        self.scores_LTK = workload.scores_TLK.transpose(1, 0, 2).astype(np.float64).tolist()
        self.members_K = [0] * len(self.device_K)  # selections that wait or run
        self.lost_mass, self.routed_rows = 0.0, 0
        self.norm_TL = None if workload.norm_TL is None else workload.norm_TL.astype(np.float64).tolist()
        self.window = Importance(len(self.device_K), expert_norm)
        self.passes_done = 0
        self.plans_D: list[deque[int]] = [deque() for _ in self.links]  # experts that are to come

    def route(self, layer: int, first_row: int, tokens: int, now: int) -> list[list[int]]:
        """Return the queues that each token of a pass joins in a layer, and pin their experts."""
        candidates_TK, base = self.candidates_LTK[layer], layer * self.experts
        rows = range(first_row, first_row + tokens)
        chosen = {expert for row in rows for expert in candidates_TK[row][: self.k] if expert >= 0}
        here = set()
        for key in sorted(base + expert for expert in chosen):
            self._access(key, now)
        for key in range(base, base + self.experts):
            if self.is_here(key):
                here.add(key - base)
        routed = []
        for row in rows:
            runs = self._masked(candidates_TK[row], here)
            self._count(layer, row, runs)
            for expert in runs:
                self._pin(base + expert)
            routed.append([layer * self.width + 1 + expert for expert in runs])
        return routed

    def _access(self, key: int, now: int) -> Access:
        device, index = self.place_of(key)
        self.order.keys_DC[device][index].append(key)
        return self.caches_DC[device][index].access(key, now)

    def _masked(self, candidates_K: list[int], here: set[int]) -> list[int]:
        """Return what runs of a token's candidates (-1: none) when only `here` may; a stand-in keeps the place."""
        chosen, others = candidates_K[: self.k], candidates_K[self.k :]
        free = iter([expert for expert in others if expert in here] if self.redirects else ())
        runs = (expert if expert in here else next(free, -1) for expert in chosen if expert >= 0)
        return [expert for expert in runs if expert >= 0]

    def _count(self, layer: int, row: int, runs: list[int]) -> None:
        """Count the gate mass that a token loses, and what it says about the importance of the experts it selected."""
        mass = dict(zip(self.candidates_LTK[layer][row], self.scores_LTK[layer][row], strict=True))
        chosen = [expert for expert in self.candidates_LTK[layer][row][: self.k] if expert >= 0]
        if self.config.period is not None:
            input_norm = 1.0 if self.norm_TL is None else self.norm_TL[row][layer]
            self.window.add(
                [layer * self.experts + expert for expert in chosen], [mass[expert] for expert in chosen], input_norm
            )
        whole = sum(mass[expert] for expert in chosen)
        if whole > 0:
            self.lost_mass += 1 - sum(mass[expert] for expert in runs) / whole
            self.routed_rows += 1

    def finished(self, passes: int) -> None:
        """Choose the experts to hold anew, if a period has ended."""
        period, before = self.config.period, self.passes_done
        self.passes_done += passes
        if period is None or self.passes_done // period == before // period:
            return
        self.worth_K[:] = self.window.score_K
        for device, caches in enumerate(self.caches_DC):
            self.plans_D[device] = exchanges(
                self.worth_K, [self._held_by(device, cache.keys) for cache in caches],
                [cache.slots for cache in caches],
                [cache.slot_of for cache in caches],
            )  # fmt: skip
        self.window.clear()

    def _held_by(self, device: int, keys: range) -> list[int]:
        return [key for key in keys if self.device_K[key] == device]

    def ask_ahead(self, now: int) -> None:
        """Let an idle link take the next exchange of its device's plan, then the prefetcher ask."""
        for link, plan in zip(self.links, self.plans_D, strict=True):
            while plan and not link.busy and self._exchange(plan[0], now):
                plan.popleft()
        super().ask_ahead(now)

    def _exchange(self, key: int, now: int) -> bool:
        """Bring an expert if it is worth a slot that may be had; return False if that has to wait."""
        device, index = self.place_of(key)
        cache = self.caches_DC[device][index]
        if key in cache.slot_of or cache.free:
            return key in cache.slot_of or self.load_ahead(key, now)
        if min(self.worth_K[held] for held in cache.slot_of) >= self.worth_K[key]:
            return True  # nobody is worth less
        fixed = cache.in_flight | cache.running
        leaving = [self.worth_K[held] for held in cache.slot_of if held not in fixed]
        return bool(leaving) and min(leaving) < self.worth_K[key] and self.load_ahead(key, now)

    def _pin(self, key: int) -> None:
        self.members_K[key] += 1
        if self.members_K[key] == 1:
            device, index = self.place_of(key)
            self.caches_DC[device][index].start(key)

    def bound(self, batch: Batch) -> None:
        """What runs is resident: the misses were counted when the pass was routed."""
        batch.hit = 1

    def released(self, batch: Batch, now: int) -> None:
        """Unpin an expert when nothing waits for it."""
        key = batch.layer * self.experts + batch.block - 1
        self.members_K[key] -= len(batch.members)
        if not self.members_K[key]:
            device, index = self.place_of(key)
            self.caches_DC[device][index].finish(key)
            self.grant(device, index, now)

    @property
    def summary(self) -> dict:
        """The counts of all caches together, and the mean gate mass lost per token and layer."""
        return {**super().summary, "lost_mass": self.lost_mass / max(1, self.routed_rows)}
