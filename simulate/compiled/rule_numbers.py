"""Which shipped rules have a compiled form in a module of their own, and the number by which compiled code knows each.

The module has the name of the one with the rule, in the folder here that mirrors its folder. Numbers are places in the
table of names as it was written; what is registered or inserted later has none. Nothing here imports numba.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moe_replay.simulate.policies.caches.cache import Cache
from moe_replay.simulate.policies.caches.cache_names import SHIPPED as SHIPPED_CACHES
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher
from moe_replay.simulate.policies.prefetchers.prefetcher_names import SHIPPED as SHIPPED_PREFETCHERS

HERE = Path(__file__).parent


def module_of(rule: type) -> str:
    """Return the name of the module that defines a rule, and of the one with its compiled form."""
    return rule.__module__.rpartition(".")[2]


def numbered(shipped: Mapping[str, type], folder: str) -> dict[type, int]:
    """Return {rule: number} of those with a module of their name in a folder of compiled rules."""
    return {
        rule: number for number, rule in enumerate(shipped.values())
        if (HERE / folder / f"{module_of(rule)}.py").exists()
    }  # fmt: skip


CACHE_NUMBERS: dict[type[Cache], int] = numbered(SHIPPED_CACHES, "caches")
PREFETCHER_NUMBERS: dict[type[Prefetcher], int] = numbered(SHIPPED_PREFETCHERS, "prefetchers")

# The others: `compiled_rules` says which rule has which; nothing depends on their order.
QUEUES, LOCKSTEP = range(2)
AT_TIMES, CLOSED, STEPS = range(3)  # arrivals
LOAD, BLOCK, HOST, REDIRECT, SKIP = range(5)
ONE_AT_A_TIME, ALL_AT_ONCE, FREE_PREFETCH = range(3)  # links
PER_LAYER, ONE_FOR_ALL = range(2)  # caches
