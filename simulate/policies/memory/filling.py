"""Slots before a run: how many experts share them, and the experts that are in them from the start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from moe_replay.simulate.policies.caches.cache import Cache, Counts
from moe_replay.simulate.policies.caches.cache_names import filled_by
from moe_replay.traces.errors import InputError

if TYPE_CHECKING:
    from moe_replay.simulate.config.memory_config import MemoryConfig
    from moe_replay.simulate.policies.memory.knowledge import Knowledge


def sharing(config: MemoryConfig, device_K: list[int], experts: int) -> int:
    """Return how many experts share the slots of a cache at most; InputError where there are more slots.

    `device_K` is the device of every key, `experts` their number per layer.
    """
    count_DL = np.zeros((max(device_K) + 1, len(device_K) // experts), np.int64)
    np.add.at(count_DL, (device_K, np.arange(len(device_K)) // experts), 1)
    held = int((count_DL.sum(1) if config.scope == "global" else count_DL).max())
    caches = 1 if config.scope == "global" else count_DL.shape[1]
    if (most := max(config.slots_of(caches))) > held:
        raise InputError(f"slots is {most}, allowed 1..{held}, the experts that share them")
    return held


def fill_all(caches: Sequence[Cache], policy: str, knowledge: Knowledge) -> None:
    """Fill the caches of one device, as `fill`, with the experts that a policy's knowledge says are worth most."""
    worth_K = knowledge.importance if filled_by(policy) == "importance" else knowledge.popularity
    fill([list(caches)], [0] * (knowledge.layers * knowledge.experts), worth_K)


def fill(caches_DC: list[list[Cache]], device_K: list[int], worth_K: Sequence[float] | None) -> None:
    """Fill every cache before the run with the experts worth most (ties: the lowest key), the best of them last.

    It counts as nothing.
    """
    if worth_K is None:
        raise InputError("filled slots need the popularity (cache 'importance': the importance) of every expert")
    for device, caches in enumerate(caches_DC):
        for cache in caches:
            held = (key for key in cache.keys if device_K[key] == device)
            for key in reversed(sorted(held, key=lambda key: -worth_K[key])[: cache.slots]):
                cache.load(key, 0, prefetch=True)
            cache.counts = Counts()
            cache.not_yet_used.clear()
