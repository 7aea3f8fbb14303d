"""The accesses and groups of a run, as arrays: what an optimum or an oracle is told of the run to come."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.simulate.compiled.pointers import Pointed
from moe_replay.simulate.policies.memory.knowledge import AccessOrder
from moe_replay.traces.errors import InputError


@dataclass(frozen=True)
class Order:
    """`key_A` are the keys accessed, those of one cache in order; group g has the members from `start_G[g]` on."""

    key_A: np.ndarray
    start_G: np.ndarray
    member_M: np.ndarray

    @classmethod
    def of(cls, order: AccessOrder) -> Order:
        """Return the order that a reference run recorded."""
        # Caches one after another: only the order within a cache is asked for.
        keys = [key for caches in order.keys_DC for keys in caches for key in keys]
        sizes = np.array([len(group.members) for group in order.groups], np.int64)
        members = [key for group in order.groups for key in group.members]
        return cls(np.array(keys, np.int64), starts(sizes), np.array(members, np.int64))

    @classmethod
    def logged(cls, memory: Pointed) -> Order:
        """Return the order that a compiled run with `logs` recorded."""
        sizes = memory["log_group_G"][: memory.groups, 2]
        return cls(memory["log_A"][: memory.accesses], starts(sizes), memory["log_member_M"][: memory.group_members])


def starts(sizes: np.ndarray) -> np.ndarray:
    """Return where each of these stretches begins, and where the last one ends."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def uses_of(order: Order | None, cache_K: np.ndarray) -> dict[str, np.ndarray]:
    """Return every key's accesses to come, as positions among those of its cache, and the groups to come.

    InputError for an order of other experts.
    """
    if order is None:
        key_A, start_G, member_M = np.zeros(0, np.int64), np.zeros(1, np.int64), np.zeros(0, np.int64)
    else:
        key_A, start_G, member_M = order.key_A, order.start_G, order.member_M
    # Refused here, because compiled code would read beyond its arrays.
    for keys in (key_A, member_M):
        if len(keys) and not 0 <= keys.min() <= keys.max() < len(cache_K):
            raise InputError(f"the order of accesses names experts {keys.min()}..{keys.max()} of {len(cache_K)}")
    by_key = np.argsort(key_A, kind="stable")  # stable: every key's accesses stay in their order
    return {
        "uses_U": positions(key_A, cache_K)[by_key],
        "first_use_K": starts(np.bincount(key_A, minlength=len(cache_K))),
        "known_G": np.array(start_G, np.int64), "known_member_M": np.array(member_M, np.int64),
    }  # fmt: skip


def positions(key_A: np.ndarray, cache_K: np.ndarray) -> np.ndarray:
    """Return the place of each access among those of its cache, from 0 on."""
    cache_A = cache_K[key_A]
    # Positions count within a cache: an optimum compares uses of experts that share its slots, and of no others.
    by_cache = np.argsort(cache_A, kind="stable")
    first_of_cache = np.searchsorted(cache_A[by_cache], np.arange(int(cache_K.max()) + 1))
    position_A = np.empty(len(key_A), np.int64)
    position_A[by_cache] = np.arange(len(key_A)) - first_of_cache[cache_A[by_cache]]
    return position_A
