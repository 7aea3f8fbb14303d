"""Grids over expert memory: caches, slots, miss handling, prefetchers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from moe_replay.simulate.config.memory_config import MASKED, MemoryConfig, looks_ahead
from moe_replay.simulate.policies.caches.cache_names import needs_loading
from moe_replay.traces.command_line.memory_room import CONFIGURATION, check_room
from moe_replay.traces.errors import InputError


@dataclass(frozen=True, kw_only=True)
class MemoryGrid:
    """What is swept over: every combination that means something. `fixed` are further fields of MemoryConfig.

    Policies that an access order does not concern (`belady` and the like under redirect or skip) are left out there, as
    are periods under another policy than `importance`.
    """

    caches: Sequence[str]
    slots: Sequence[int]
    misses: Sequence[str]
    prefetchers: Sequence[str]
    periods: Sequence[int | None]
    fixed: dict

    def memories(self) -> list[MemoryConfig]:
        """Return the memories; InputError where nothing is left."""
        lists = (self.caches, self.misses, self.slots, self.prefetchers, self.periods)
        check_room("the grid: memories", math.prod(map(len, lists)), CONFIGURATION)
        found = [
            self.memory(cache, slots, miss, prefetch, period)
            for cache, miss, slots, prefetch, period in product(*lists)
            if not (miss in MASKED and needs_loading(cache))
            and (period is None or (miss in MASKED and cache == "importance"))
        ]
        if not found:
            raise InputError("no combination of cache, miss and period means anything")
        return found

    def memory(self, cache: str, slots: int, miss: str, prefetch: str, period: int | None) -> MemoryConfig:
        """Return one memory; what loads nothing by itself begins with filled slots."""
        fixed = dict(self.fixed)
        look_ahead = fixed.pop("look_ahead", 1)
        host_factor, asks = fixed.pop("host_factor", 1.0), fixed.pop("asks", "stage")
        return MemoryConfig(
            cache=cache, slots=slots, miss=miss, prefetch=prefetch, period=period,
            look_ahead=look_ahead if looks_ahead(prefetch) else 1,
            **{**fixed, "filled": fixed.get("filled", False) or miss in ("host", *MASKED)},
            **({"host_factor": host_factor} if miss == "host" else {}),
            **({"asks": asks} if miss == "load" else {}),
        )  # fmt: skip
