"""Miss counts in flat mode: each access counts by itself, in stored order, and a miss is loaded at once."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from moe_replay.simulate.misses.access_streams import Stream
from moe_replay.simulate.misses.compiled_replay import COMPILED_CACHES, Accesses, Seed, compiled_counts
from moe_replay.simulate.misses.stack_kernels import NARROW, bypass_curve, lru_curve, optimum_curve
from moe_replay.simulate.policies.caches.belady import Belady, BeladyBypass
from moe_replay.simulate.policies.caches.cache import Cache, Counts
from moe_replay.simulate.policies.caches.cache_names import CACHES, new_cache
from moe_replay.simulate.policies.caches.lru import LRU
from moe_replay.simulate.policies.memory.filling import fill_all
from moe_replay.simulate.policies.memory.knowledge import Future, Knowledge

CURVES = {LRU: lru_curve, Belady: optimum_curve}  # by class; every number of slots in one pass


def flat_counts(
    stream: Stream, policy: str, slots: Sequence[int], knowledge: Knowledge, seed: Seed, filled: bool = False
) -> list[Counts]:
    """Return what a policy does on a stream, with each number of slots.

    Where slots are not `filled` at first, a curve or the compiled caches count for the policies that have one, the
    policy object for the others; all count the same. The future of an oracle is the stream itself. Raises InputError
    as `new_cache` and `fill` do.
    """
    knowledge = replace(knowledge, future=Future(()), rng=np.random.default_rng(seed))
    caches = [new_cache(policy, each, stream.keys, knowledge) for each in slots]
    arrays, kind = (stream.expert_A, stream.start_S, len(stream.keys)), CACHES[policy]
    if kind not in COMPILED_CACHES or filled:
        return [flat_counts_by_object(stream, policy, each, knowledge, seed, filled) for each in slots]
    if kind is BeladyBypass:
        return bypass_counts(*arrays, slots)
    if kind is Belady or (kind is LRU and (len(slots) > 1 or len(stream.keys) <= NARROW)):
        curve = CURVES[kind](*arrays)
        return [of_misses(int(curve[each]), len(stream.expert_A)) for each in slots]
    accesses = Accesses.of_stream(stream)
    return [compiled_counts(accesses, [cache], knowledge.experts, seed)[0] for cache in caches]


def bypass_counts(expert_A: np.ndarray, start_S: np.ndarray, experts: int, slots: Sequence[int]) -> list[Counts]:
    """Return what the optimum that may decline does on the accesses of a stream, with each number of slots."""
    misses_C, declined_C = bypass_curve(expert_A, start_S, experts)
    return [of_misses(int(misses_C[each]), len(expert_A), int(declined_C[each])) for each in slots]


def of_misses(misses: int, accesses: int, declined: int = 0) -> Counts:
    """Return the counts of a curve's policy; evictions are not counted there."""
    return Counts(accesses=accesses, hits=accesses - misses, misses=misses, loads=misses - declined, declined=declined)


def flat_counts_by_object(
    stream: Stream, policy: str, slots: int, knowledge: Knowledge, seed: Seed, filled: bool = False
) -> Counts:
    """Return what the policy object does on a stream with one number of slots, anew for every stretch."""
    counts, rng = Counts(), np.random.default_rng(seed)
    for accesses in stream.stretches():
        future = Future(accesses) if "future" in CACHES[policy].needs else None
        cache = new_cache(policy, slots, stream.keys, replace(knowledge, future=future, rng=rng))
        if filled:
            fill_all([cache], policy, knowledge)
        replay_flat(cache, accesses)
        counts += cache.counts
    return counts


def replay_flat(cache: Cache, accesses: Sequence[int]) -> None:
    """Make accesses one after another; what a policy declines is let through and gone."""
    for now, expert in enumerate(accesses):
        cache.demand(expert, now)
        cache.finish(expert)
