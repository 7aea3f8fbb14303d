"""Which shipped rules have a compiled form in a module of their own, and the number by which compiled code knows each.

The module has the name of the one with the rule, in the folder here that mirrors its folder. Numbers are places in the
table of names as it was written; what is registered or inserted later has none. Nothing here imports numba.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from moe_replay.simulate.policies.caches.cache import Cache
from moe_replay.simulate.policies.caches.cache_names import SHIPPED as SHIPPED_CACHES

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
