"""Grids over expert memory: caches, slots, miss handling, prefetchers, and the worlds that explain them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from simulate.beforehand import known_from, needs_of
from simulate.policies.config import RunConfig
from simulate.policies.memory.config import MASKED, MemoryConfig
from simulate.policies.memory.known import Known
from simulate.regret import worlds
from traces.errors import InputError
from traces.selections import Trace


@dataclass(frozen=True)
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
        found = [
            self.memory(cache, slots, miss, prefetch, period)
            for cache, miss, slots, prefetch, period in product(
                self.caches, self.misses, self.slots, self.prefetchers, self.periods
            )
            if not (miss in MASKED and cache in ("none", "belady"))
            and (period is None or (miss in MASKED and cache == "importance"))
        ]
        if not found:
            raise InputError("no combination of --cache, --miss and --period means anything")
        return found

    def memory(self, cache: str, slots: int, miss: str, prefetch: str, period: int | None) -> MemoryConfig:
        """Return one memory; what loads nothing by itself begins with filled slots."""
        fixed = dict(self.fixed)
        look_ahead = fixed.pop("look_ahead", 1)
        host_factor = fixed.pop("host_factor", 1.0)
        return MemoryConfig(
            cache=cache, slots=slots, miss=miss, prefetch=prefetch, period=period,
            look_ahead=look_ahead if prefetch == "oracle" else 1,
            **{**fixed, "filled": fixed.get("filled", False) or miss in ("host", *MASKED)},
            **({"host_factor": host_factor} if miss == "host" else {}),
        )  # fmt: skip

    def configs(self, base: Sequence[RunConfig], experts: int, explain: bool) -> dict[str, RunConfig]:
        """Return {name: configuration} of all runs, with `explain` also of the worlds behind their lost time.

        Without it the run with all experts resident stands beside them. `experts`: as in `worlds`.
        """
        found = {}
        for config, memory in product(base, self.memories()):
            run = replace(config, memory=memory)
            around = worlds(run, experts) if explain else {}
            for each in (config, run, *around.values()):
                found[each.name] = each
        return found


def known_of(trace: Trace, k: int | None, memories: Sequence[MemoryConfig]) -> Known:
    """Return what a trace tells the policies of some memories: popularity and importance, where they ask for it."""
    needs = needs_of(tuple(each.cache for each in memories), tuple(each.prefetch for each in memories))
    if any(each.filled and each.cache != "importance" for each in memories):
        needs.add("popularity")
    knowledge = known_from(trace, k, needs)
    return Known(knowledge.popularity, knowledge.importance)
