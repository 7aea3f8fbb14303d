"""Renaming experts permutes what happens and changes no aggregate, but for ties that go by an expert's number."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from equality import assert_equal
from renaming_worlds import SLOTS, aggregates, settings, worlds

from moe_replay.simulate.config.memory_config import HANDLINGS, MASKED
from moe_replay.simulate.policies.caches.cache_names import CACHES, needs_loading
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS

SCHEDULERS = pytest.mark.parametrize(
    "scheduler", [{"scheduler": "lockstep", "max_step": 1}, {"queue_size": 1}], ids=str
)
ONE_BY_ONE = {"arrivals": "closed", "in_flight": 1}
SEVERAL = {"arrivals": "closed", "in_flight": 8}
LOCKSTEP = {"scheduler": "lockstep"}
QUEUES = {"queue_size": 1}

# Where a number decides, and a run that shows it: (rule, scheduler, arrivals, selections of a token, what is equal).
TIES = {
    "members of a stage are accessed ascending: who was used last leaves later":
        (LOCKSTEP, ONE_BY_ONE, {"k": 4}, {"miss": "load", "cache": "lru"}),
    "members of a stage ask ascending: one that is declined holds up those behind it":
        (QUEUES, ONE_BY_ONE, {"k": 4, "even_costs": False}, {"miss": "load", "cache": "static"}),
    "members of a stage run ascending: under `block` one that is absent displaces one that runs later":
        (LOCKSTEP, ONE_BY_ONE, {"k": 4}, {"miss": "block", "cache": "lru"}),
    "members of a stage run ascending: an exchange waits until the expert that leaves has run":
        (LOCKSTEP, ONE_BY_ONE, {"k": 4}, {"miss": "skip", "cache": "importance", "period": 5}),
    "queues that become ready together join the ready list ascending":
        (QUEUES, SEVERAL, {"k": 4, "together": 8}, {"miss": "host", "cache": "lru"}),
    "of heads that waited equally long that of the lowest queue is forced by the stall rule":
        ({"queue_size": 8}, ONE_BY_ONE, {"k": 4}, {"miss": "load", "cache": "lru"}),
    "experts that are asked for ahead together are asked for ascending":
        (LOCKSTEP, ONE_BY_ONE, {"k": 4}, {"miss": "host", "cache": "lru", "prefetch": "previous-token"}),
    "of followers with equal scores the lowest is loaded ahead":
        (LOCKSTEP, ONE_BY_ONE, {"k": 1}, {"miss": "load", "cache": "fifo", "prefetch": "co-activation"}),
    "of equally popular experts the lowest fill the slots":
        (LOCKSTEP, ONE_BY_ONE, {"k": 1, "even_worth": True}, {"miss": "host", "cache": "lru"}),
}  # fmt: skip
# Caches for which none of it matters although a token's members tie, where batches take as long for every expert.
WITH_TIES = {
    "load": {"none"}, "block": {"none", "static"}, "host": {"none", "static"},
    **{miss: {cache for cache in CACHES if not needs_loading(cache)} for miss in MASKED},
}  # fmt: skip


def free_of_ties(miss, prefetch):
    """Return the caches for which members that tie change nothing."""
    if miss == "host" and prefetch == "none":
        return set(CACHES)  # nothing is loaded
    if miss == "block" and prefetch == "oracle":
        return set()  # what is asked for ahead hangs on who has asked already, and who displaces whom
    return WITH_TIES[miss]


def caches(miss, prefetch="none"):
    """Return the caches that mean something under a handling of misses."""
    return [cache for cache in CACHES if not (miss in MASKED and (needs_loading(cache) or prefetch == "oracle"))]


def ahead(prefetch):
    """Return the fields of a prefetcher."""
    return {"prefetch": prefetch, "look_ahead": 2 if prefetch == "oracle" else 1}


def all_of(made, *run, **memory):
    """Return the aggregates of a run in every world."""
    kept = settings(*run, **memory)
    return [aggregates(named.records(kept)) for named in made]


def assert_same(found):
    """Check that aggregates are equal; what a sum of fractions in another order leaves is its last digits."""
    first, *others = found
    lost = [each[2].pop("lost_mass", 0.0) for each in found]
    assert lost == pytest.approx([lost[0]] * len(lost), rel=1e-12)
    assert all(other == first for other in others)


def apart(found):
    """Return how far makespans and shares of hits lie apart at most."""
    first, *others = found
    share = [each[2]["hits"] / each[2]["accesses"] for each in found]
    return max(abs(other[0] / first[0] - 1) for other in others), max(share) - min(share)


@pytest.fixture(scope="module")
def without_ties():
    """Sequences that arrive at times of their own, of tokens with one expert, no two of which take as long."""
    return {follows: worlds(1, 40, even_costs=False, follows=follows)[2:] for follows in (False, True)}


@SCHEDULERS
@pytest.mark.parametrize("devices", [1, 2, 4])
@pytest.mark.parametrize("miss", HANDLINGS)
def test_without_ties_no_aggregate_changes(scheduler, devices, miss, without_ties):
    rate_per_s = 120.0 * (devices if scheduler == QUEUES else 1)
    arrivals = {"arrivals": "poisson", "rate_per_s": rate_per_s, "seed": 1}
    scope = {"scope": "global", "slots": 2 * SLOTS // devices} if devices == 4 else {}
    for prefetch in PREFETCHERS if devices == 2 else ["none"]:
        made = without_ties[prefetch == "co-activation"]
        for cache in caches(miss, prefetch):
            assert_same(all_of(made, scheduler, arrivals, devices, miss=miss, cache=cache, **ahead(prefetch), **scope))


@pytest.mark.parametrize("timeout_ns", [None, 2_000_000])
@pytest.mark.parametrize("queue_size", [2, 3])
def test_without_ties_batches_of_several_passes_change_no_aggregate(queue_size, timeout_ns):
    made = worlds(1, 160, even_costs=False, follows=True)[2:]  # those of a batch go to one queue together
    scheduler = {"queue_size": queue_size, "timeout_ns": timeout_ns}
    arrivals = {"arrivals": "poisson", "rate_per_s": 120.0, "seed": 1}
    for miss in ("load", "block", "host", "skip"):  # `redirect` sends tokens of a batch to several queues
        for cache in caches(miss):
            assert_same(all_of(made, scheduler, arrivals, miss=miss, cache=cache))


@SCHEDULERS
@pytest.mark.parametrize("miss", MASKED)
def test_without_ties_residents_chosen_anew_change_no_aggregate(scheduler, miss, without_ties):
    arrivals = {"arrivals": "poisson", "rate_per_s": 120.0, "seed": 1}
    for period in (1, 3, 10):
        for devices in (1, 2):
            memory = {"miss": miss, "cache": "importance", "period": period}
            found = all_of(without_ties[False], scheduler, arrivals, devices, **memory)
            assert found[0][2]["prefetches"] > 0
            assert_same(found)


@pytest.fixture(scope="module")
def with_ties():
    """Tokens with four experts, that take equally long: they tie wherever order goes by number."""
    return {together: worlds(4, together)[2:] for together in (1, 8)}


@SCHEDULERS
@pytest.mark.parametrize(("miss", "prefetch"), [each for each in product(HANDLINGS, PREFETCHERS) if caches(*each)])
def test_with_ties_aggregates_differ_only_where_something_goes_by_number(scheduler, miss, prefetch, with_ties):
    exact = free_of_ties(miss, prefetch)
    for devices in (1, 2) if prefetch == "none" else (2,):
        for cache in caches(miss, prefetch):
            factor = {"host_factor": 3.0} if miss == "host" else {}
            memory = {"miss": miss, "cache": cache, **ahead(prefetch), **factor}
            found = all_of(with_ties[1], scheduler, ONE_BY_ONE, devices, **memory)
            if cache in exact:
                assert_same(found)
            else:
                makespans, hits = apart(found)
                assert makespans <= (0.03 if prefetch == "none" else 0.08), (cache, devices)
                assert hits <= (0.1 if prefetch == "none" else 0.15), (cache, devices)


@pytest.mark.parametrize("miss", ["host", *MASKED])
def test_many_passes_in_lockstep_change_no_aggregate_where_nothing_is_loaded(miss, with_ties):
    for devices in (1, 2):
        for cache in caches(miss):
            assert_same(all_of(with_ties[8], LOCKSTEP, SEVERAL, devices, miss=miss, cache=cache))


@pytest.mark.parametrize("miss", MASKED)
def test_many_passes_in_queues_lose_the_same_gate_mass(miss, with_ties):
    for devices in (1, 2):
        found = all_of(with_ties[8], QUEUES, SEVERAL, devices, miss=miss, cache="lru")
        assert_same([[0, [], counts] for _, _, counts, _ in found])


@pytest.mark.parametrize("miss", ["host", *MASKED])
def test_equally_popular_experts_matter_only_where_the_slots_part_them(miss):
    made = worlds(4, even_worth=True)  # in four classes of four
    whole = all_of(made, LOCKSTEP, ONE_BY_ONE, miss=miss, cache="static", slots=8)
    parted = all_of(made, LOCKSTEP, ONE_BY_ONE, miss=miss, cache="static", slots=6)
    assert_same(whole)
    assert 0 < apart(parted)[1] <= 0.15


@pytest.mark.parametrize("rule", TIES)
def test_every_tie_that_goes_by_number_is_named_and_shown(rule):
    scheduler, arrivals, world, memory = TIES[rule]
    first, *others = all_of(worlds(**world), scheduler, arrivals, **memory)
    assert any(other != first for other in others)


@SCHEDULERS
@pytest.mark.parametrize("miss", HANDLINGS)
def test_both_engines_place_renamed_experts_alike(scheduler, miss, with_ties):
    kept = settings(scheduler, SEVERAL, 2, miss=miss, cache="lru")
    for named in with_ties[8][:2]:
        assert len(np.unique(named.records(kept).batches["device"])) >= 2
        with named.placed:
            assert_equal(named.workload, replace(kept, placement="renamed"), named.cost, named.known)
