"""Miss counts in group mode: the experts of a layer run one after another, and those that have not run are protected.

There is no time: a transfer is complete at once, a group's own loads come first, and what is loaded ahead of the next
groups follows when its last expert has run. The rules are those of `policies.memory.cache`; a prefetch replaces
no expert that the same proposal holds or has brought.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from moe_replay.simulate.misses.compiled_replay import COMPILED_CACHES, Accesses, compiled_counts
from moe_replay.simulate.misses.flat_misses import flat_counts
from moe_replay.simulate.policies.caches.belady import BeladyBypass
from moe_replay.simulate.policies.caches.cache import Cache, Counts
from moe_replay.simulate.policies.caches.cache_names import CACHES, key_ranges, new_caches
from moe_replay.simulate.policies.memory.filling import fill_all
from moe_replay.simulate.policies.memory.knowledge import Future, Group, Knowledge
from moe_replay.simulate.policies.prefetchers.prefetcher import Prefetcher
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS, new_prefetcher
from moe_replay.traces.errors import InputError


def group_counts(
    stretches: Sequence[Sequence[Group]] | None,
    policy: str,
    slots: int,
    scope: str,
    prefetcher: str,
    knowledge: Knowledge,
    seed: int,
    filled: bool = False,
) -> list[Counts]:
    """Return what a policy and a prefetcher do on groups, per cache; caches are emptied between stretches.

    What both have learnt is lost there as well; with `filled` they begin full. The futures of oracles are the groups
    themselves. Raises InputError where no groups are given, and as `new_cache`, `new_prefetcher` and `fill` do.
    """
    if not stretches:
        raise InputError("group mode needs groups: the experts that run together, of a pass or of a step")
    totals = [Counts() for _ in key_ranges(scope, knowledge.layers, knowledge.experts)]
    rng = np.random.default_rng(seed)
    for groups in stretches:
        known = replace(knowledge, groups=groups, rng=rng)
        count = len(key_ranges(scope, known.layers, known.experts))
        caches = new_caches(policy, [slots] * count, scope, known, futures(groups, policy, scope, knowledge))
        if filled:
            fill_all(caches, policy, known)
        replay_groups(groups, caches, new_prefetcher(prefetcher, known))
        totals = [total + cache.counts for total, cache in zip(totals, caches, strict=True)]
    return totals


def is_compiled(policy: str, prefetcher: str) -> bool:
    """Say whether the compiled caches count for a policy where a prefetcher proposes: only for none that does."""
    return CACHES[policy] in COMPILED_CACHES and PREFETCHERS[prefetcher] is Prefetcher


def compiled_group_counts(
    accesses: Accesses, policy: str, slots: Sequence[int], scope: str, knowledge: Knowledge, seed: int
) -> Iterator[list[Counts]]:
    """Yield, for each number of slots, what `group_counts` returns where nothing is prefetched.

    The optimum that may decline is counted for all of them at once: no member of a group is in another's way there.
    """
    caches = len(key_ranges(scope, knowledge.layers, knowledge.experts))
    if CACHES[policy] is BeladyBypass:
        streams = [accesses.stream(cache) for cache in range(caches)]
        yield from zip(*(flat_counts(each, policy, slots, knowledge, seed) for each in streams), strict=True)
        return
    known = replace(knowledge, rng=np.random.default_rng(seed))
    for each in slots:
        empty = new_caches(policy, [each] * caches, scope, known, [Future(())] * caches)
        yield compiled_counts(accesses, empty, knowledge.experts, seed)


def futures(groups: Sequence[Group], policy: str, scope: str, knowledge: Knowledge) -> list[Future] | None:
    """Return the accesses of every cache, None where the policy does not ask for them."""
    if "future" not in CACHES[policy].needs:
        return None
    if scope == "global":
        return [Future([member for group in groups for member in group.members])]
    return [
        Future([member for group in groups if group.layer == layer for member in group.members])
        for layer in range(knowledge.layers)
    ]


def replay_groups(groups: Sequence[Group], caches: Sequence[Cache], prefetcher: Prefetcher) -> None:
    """Run groups in order. `caches` holds one per layer, or one that serves all."""
    experts = prefetcher.knowledge.experts
    for now, group in enumerate(groups):
        cache = caches[group.layer % len(caches)]
        cache.protect(group.members)
        for member in group.members:
            run_member(cache, member, now)
        prefetcher.observe(group)
        ahead = prefetcher.ahead(group)
        for each in {key // experts % len(caches): None for key in ahead}:
            caches[each].protect([key for key in ahead if key // experts % len(caches) == each])
        for key in ahead:
            holder = caches[key // experts % len(caches)]
            if key not in holder.slot_of:
                holder.load(key, now, prefetch=True)


def run_member(cache: Cache, member: int, now: int) -> None:
    """Let one member run, loaded first if it misses; RuntimeError if a demand has nowhere to go."""
    cache.demand(member, now)
    cache.start(member)
    cache.finish(member)
