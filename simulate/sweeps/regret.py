"""Why a run with expert slots takes longer than one with all experts resident: worlds that differ by one cause each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.traces.command_line.memory_room import CONFIGURATION, check_room

EXPLAINED = ("load", "block")  # handlings whose lost time is split; the others change what is computed, or where

# Every cause with the two worlds between which it is the only difference; the causes add up to the whole loss.
CAUSES = {
    "compulsory": ("resident", "ample"),
    "capacity": ("ample", "best"),
    "policy": ("best", "alone"),
    "bandwidth": ("alone", "queued"),
    "prefetching": ("queued", "timely"),
    "late_prefetch": ("timely", "run"),
}
BEST_OF = ("optimum", "declining", "alone")


MOST_WORLDS = 9  # of one run, itself and that with all experts resident included


def worlds(config: RunConfig, experts: int) -> dict[str, RunConfig]:
    """Return the worlds that explain a run with expert memory; `experts` share a cache's slots at most.

    `resident`: all experts are there from the start. `ample`: a slot for each, filled as the run's are. `optimum` and
    `declining`: the slots of the run under Belady's optimum, which keeps what it loads, and under the one that may
    decline. `alone`: the run's policy. In these transfers do not wait for each other.
    `queued`: they do. `timely`: and what the run prefetches is there at once and takes nothing of the link.
    Worlds may coincide: without a prefetcher the last three do. Empty for a run whose misses are not loaded.
    """
    memory = config.memory
    if memory is None or memory.miss not in EXPLAINED:
        return {}
    alone = replace(memory, prefetch="none", look_ahead=1, link="wide")
    changed = {
        "ample": replace(alone, cache="lru", slots=experts), "optimum": replace(alone, cache="belady"),
        "declining": replace(alone, cache="belady-bypass"), "alone": alone, "queued": replace(alone, link="fifo"),
        "run": memory,
        "timely": memory if memory.prefetch == "none" else replace(memory, link="free-prefetch"),
    }  # fmt: skip
    return {
        "resident": replace(config, memory=None),
        **{name: replace(config, memory=each) for name, each in changed.items()},
    }


def split(time_of: dict[str, float]) -> dict[str, float]:
    """Return what each cause adds, from the time that each world of `worlds` takes; they sum to run - resident.

    Fewest misses are not always least time: an optimum counts misses, and its loads may come when they are in the way.
    So the bound is the `best` time known for these slots, of both optima and the policy itself: no policy is better.
    """
    known = [time_of[name] for name in BEST_OF]
    times = {**time_of, "best": math.nan if any(map(math.isnan, known)) else min(known)}
    return {cause: times[after] - times[before] for cause, (before, after) in CAUSES.items()}


def memory_configs(
    base: Sequence[RunConfig], memories: Sequence[MemoryConfig], experts: int, explain: bool
) -> dict[str, RunConfig]:
    """Return {name: configuration} of every base under every memory, with `explain` also of the worlds behind it.

    Without it the run with all experts resident is added. `experts`: as in `worlds`.
    """
    check_room("the grid: runs", len(base) * len(memories) * (MOST_WORLDS if explain else 2), CONFIGURATION)
    found = {}
    for config, memory in product(base, memories):
        run = replace(config, memory=memory)
        around = worlds(run, experts) if explain else {}
        for each in (config, run, *around.values()):
            found[each.name] = each
    return found
