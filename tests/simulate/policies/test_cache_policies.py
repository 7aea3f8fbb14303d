"""Cache policies: one contract for every name in the table, then small worlds whose whole logs a reader can check.

A policy of your own is held to it by
`pytest tests/simulate/policies/test_cache_policies.py -k contract --policy MODULE:NAME`.
"""

from dataclasses import replace

import numpy as np
import pytest

from moe_replay.simulate.misses.group_misses import replay_groups
from moe_replay.simulate.misses.stack_kernels import bypass_curve, optimum_curve
from moe_replay.simulate.policies.caches.cache import Access, Cache
from moe_replay.simulate.policies.caches.cache_names import CACHES, key_ranges, new_cache, new_caches
from moe_replay.simulate.policies.memory.knowledge import Future, Group, Knowledge
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS, new_prefetcher
from moe_replay.traces.errors import InputError

START = np.zeros(1, np.int64)


def pytest_generate_tests(metafunc):
    """Give the contract every cache policy there is, or the one that `--policy` asks for."""
    if "policy" in metafunc.fixturenames:
        given = metafunc.config.getoption("--policy")
        metafunc.parametrize("policy", [given] if given else sorted(CACHES))


def knowledge(layers, experts, accesses=(), groups=None, look_ahead=1, seed=0):
    """All that any policy asks for; popularity is that of the accesses, importance a fixed permutation."""
    keys = layers * experts
    return Knowledge(
        layers, experts, popularity=np.bincount(accesses, minlength=keys).tolist() if len(accesses) else [0] * keys,
        importance=np.random.default_rng(1).permutation(keys).tolist(), future=Future(accesses), groups=groups,
        look_ahead=look_ahead, rng=np.random.default_rng(seed),
    )  # fmt: skip


def serve(cache, accesses):
    """Serve accesses one after another; return the victims in order."""
    victims = []
    for now, expert in enumerate(accesses):
        held = set(cache.slot_of)
        cache.demand(expert, now)
        cache.finish(expert)
        victims += held - cache.slot_of.keys()
    return victims


def random_groups(rng, layers, experts, passes):
    """Passes of two sequences through all layers, with one to `experts` members per layer."""
    groups = []
    for _ in range(passes):
        sequence = int(rng.integers(2))
        for layer in range(layers):
            members = rng.choice(experts, rng.integers(1, experts + 1), replace=False)
            groups.append(Group(layer, sequence, tuple(sorted(int(layer * experts + each) for each in members))))
    return groups


def watched(name):
    """The named policy, which checks at every eviction who leaves."""

    class Watched(CACHES[name]):
        evicted = 0

        def remove(self, expert):
            assert expert in self.slot_of
            assert expert not in self.running
            assert expert not in self.in_flight
            if expert in self.protected:
                order = [each for each in self.protected if each in self.slot_of]
                assert set(self.slot_of) <= {*order, *self.running, *self.in_flight}, "an unprotected one could leave"
                assert expert == order[-1], "not the one that runs last"
            self.evicted += 1
            super().remove(expert)

        def victim(self, now, kept):
            assert set(self.slot_of) - set(kept)
            return super().victim(now, kept)

        def start(self, expert):
            super().start(expert)
            assert len(self.slot_of) <= self.slots
            assert len(set(self.slot_of.values())) == len(self.slot_of)
            assert set(self.slot_of.values()) <= set(range(self.slots))

    return Watched


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 12])
def test_contract_flat(policy, slots):
    rng = np.random.default_rng(slots)
    for skew in (0.0, 1.2):
        weight = np.arange(1, 13) ** -skew
        accesses = rng.choice(12, 400, p=weight / weight.sum()).tolist()
        cache = watched(policy)(slots, range(12), knowledge(3, 4, accesses))
        serve(cache, accesses)
        counts = cache.counts
        assert counts.accesses == 400 == counts.hits + counts.misses
        assert counts.delayed_hits == counts.prefetches == 0
        assert len(cache.slot_of) <= slots
        assert counts.evictions == cache.evicted == counts.loads - len(cache.slot_of)
        assert counts.misses == counts.loads + counts.declined == counts.transfers >= len(set(accesses))
        assert CACHES[policy].bypasses or counts.declined == 0
        assert_no_better(policy, counts.misses, np.array(accesses, np.int32), 12, slots)


def assert_no_better(name, misses, accesses, experts, slots):
    """Nobody beats the optimum that may decline, and nobody who keeps what it loads beats Belady's."""
    keeping, declining = optimum_curve(accesses, START, experts), bypass_curve(accesses, START, experts)[0]
    assert misses >= declining[slots]
    assert CACHES[name].bypasses or misses >= keeping[slots]
    assert misses == {"belady": keeping[slots], "belady-bypass": declining[slots]}.get(name, misses)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("prefetcher", PREFETCHERS)
def test_contract_group(policy, scope, prefetcher):
    """Never stuck with one slot or more; who runs stays; no transfers below the optimum's, whoever prefetches."""
    rng = np.random.default_rng(0)
    layers, experts = 3, 4
    for slots in (1, 2, 3, 4):
        groups = random_groups(rng, layers, experts, passes=12)
        ranges = key_ranges(scope, layers, experts)
        streams = [[key for group in groups for key in group.members if key in keys] for keys in ranges]
        everything = [key for group in groups for key in group.members]
        given = knowledge(layers, experts, everything, groups, look_ahead=2)
        caches = [
            watched(policy)(slots, keys, replace(given, future=Future(stream)))
            for keys, stream in zip(ranges, streams, strict=True)
        ]
        replay_groups(groups, caches, new_prefetcher(prefetcher, given))
        for cache, stream in zip(caches, streams, strict=True):
            counts = cache.counts
            assert counts.accesses == len(stream) == counts.hits + counts.misses
            assert counts.loads + counts.prefetches - counts.evictions == len(cache.slot_of) <= slots
            assert counts.prefetches_used <= counts.prefetches
            assert prefetcher != "none" or counts.prefetches == counts.prefetches_dropped == 0
            local = np.array(stream, np.int32) - cache.keys.start
            assert counts.transfers >= bypass_curve(local, START, len(cache.keys))[0][slots]
            if prefetcher == "none":  # what is protected is needed soonest: protection costs the optima nothing
                assert_no_better(policy, counts.misses, local, len(cache.keys), slots)


# Accesses 0 1 0 2 0 3 1 0 with two slots: who leaves, in order.
VICTIMS = {
    "none": [], "static": [], "fifo": [0, 1, 2, 0, 3], "lru": [1, 2, 0, 3], "lfu": [1, 2, 3], "lifo": [1, 2, 3],
    "lifo-use": [0, 2, 0, 1], "sieve": [1, 2, 0, 3], "s3fifo": [0, 1, 2, 0, 3], "lfru": [1, 2, 3],
    "least-stale": [1, 2, 0, 3], "importance": [1, 2, 3], "belady": [1, 2, 3], "belady-bypass": [],
}  # fmt: skip


@pytest.mark.parametrize("name", VICTIMS)
def test_who_leaves(name):
    accesses = [0, 1, 0, 2, 0, 3, 1, 0]
    given = Knowledge(1, 4, popularity=[4, 2, 1, 1], importance=[5, 1, 3, 4], future=Future(accesses))
    cache = new_cache(name, 2, range(4), given)
    assert serve(cache, accesses) == VICTIMS[name]
    misses = {"none": 8, "static": 4, "belady-bypass": 4}.get(name, 2 + len(VICTIMS[name]))
    assert (cache.counts.hits, cache.counts.misses) == (8 - misses, misses)


def test_every_policy_but_the_random_one_has_a_log():
    assert VICTIMS.keys() == CACHES.keys() - {"random"}


def test_lfu_forgets_the_count_of_what_left():
    """1 is used three times, leaves to make room for nobody's benefit, and is as new when it returns."""
    cache = new_cache("lfu", 2, range(4), Knowledge(1, 4))
    assert serve(cache, [0] * 4 + [1] * 3 + [0, 2, 1, 3]) == [1, 2, 1]


def test_lfru_lets_go_of_what_was_used_often_long_ago():
    """0 has three uses at access 3: its ratio falls 3/3, 3/4, 3/5, 3/6; the other's is 1/2 whenever it is asked."""
    accesses = [0, 0, 0, 1, 2, 1, 2, 1, 2]
    assert serve(new_cache("lfru", 2, range(3), Knowledge(1, 3)), accesses) == [1, 2, 1, 0]
    assert serve(new_cache("lfu", 2, range(3), Knowledge(1, 3)), accesses) == [1, 2, 1, 2, 1]


def test_s3fifo_moves_what_is_used_twice_and_remembers_ghosts():
    """Small queue of 1, main of 2, 2 ghosts. 3: 0 moves to main, 1 leaves. 1 returns from the ghosts to main, for 2.

    4: 3 leaves, ghosts 2 3. 2: 4 leaves and pushes 2 out of the ghosts, so 2 is new.
    """
    cache = new_cache("s3fifo", 3, range(5), Knowledge(1, 5))
    assert serve(cache, [0, 0, 0, 1, 2, 3, 1, 4, 2]) == [1, 2, 3, 4]
    assert (list(cache.small), list(cache.main), list(cache.ghosts)) == ([2], [0, 1], [3, 4])


def test_the_hand_of_sieve_stays_where_it_is_when_one_before_it_leaves():
    """It passed 0, which was used, and let 1 go; 0 leaves for another reason: 2 is still the next that it looks at."""
    cache = new_cache("sieve", 3, range(6), Knowledge(1, 6))
    assert serve(cache, [0, 1, 2, 0, 3]) == [1]
    cache.remove(0)
    assert [cache.victim(0, ()), cache.order] == [2, [2, 3]]


def test_least_stale_keeps_what_lies_ahead_in_the_pass():
    """Two layers of two: keys 0 1 | 2 3. In the third pass LRU drops 2, which is needed next; least-stale drops 1."""
    passes = [0, 2, 1, 3, 0, 2]
    assert serve(new_cache("least-stale", 3, range(4), Knowledge(2, 2)), passes) == [0, 1]
    assert serve(new_cache("lru", 3, range(4), Knowledge(2, 2)), passes) == [0, 2, 1]


def log_of(policy, slots, groups, experts=8):
    """Run groups of one layer; return (expert, hit, who left) for every member."""
    stream = [member for group in groups for member in group]
    cache = new_cache(policy, slots, range(experts), knowledge(1, experts, stream))
    log = []
    for now, group in enumerate(groups):
        cache.protect(group)
        for member in group:
            held = dict(cache.slot_of)
            hit = bool(cache.access(member, now))
            assert hit or cache.load(member, now)
            cache.start(member)
            cache.finish(member)
            log.append((member, hit, *(held.keys() - cache.slot_of.keys())))
    return log


def test_expert_buffering_keeps_the_first_of_the_batch():
    """Huang et al.: two slots, 1 2 3 needed: 3 takes the slot of 2, so that 1 is there when the next batch begins."""
    first = [(1, False), (2, False), (3, False, 2)]
    assert log_of("lifo", 2, [(1, 2, 3)]) == first
    # 1 hits; 2: 3 has not run, 1 has: 1 leaves. 3 hits.
    assert log_of("lifo", 2, [(1, 2, 3), (1, 2, 3)]) == [*first, (1, True), (2, False, 1), (3, True)]
    # 4 is not active in the last batch, so it leaves before 1, which came later.
    assert log_of("lifo", 2, [(4,), (1, 2)]) == [(4, False), (1, False), (2, False, 4)]


def test_members_that_have_not_run_stay_and_the_last_of_them_leaves_if_need_be():
    """2 and 3 are there. 1 can only take the slot of 3, which runs last; 2 hits; 3 takes that of 1, used before 2."""
    groups = [(2, 3), (1, 2, 3)]
    log = [(2, False), (3, False), (1, False, 3), (2, True), (3, False, 1)]
    assert log_of("lru", 2, groups) == log
    flat = new_cache("lru", 2, range(8), Knowledge(1, 8))
    assert serve(flat, [2, 3, 1, 2, 3]) == [2, 3, 1]  # without protection every one of them misses


def test_transfers_that_take_time():
    """Two slots. A second demand for what is on its way is a delayed hit; nothing in flight or running is evicted."""
    cache = new_cache("fifo", 2, range(8), Knowledge(1, 8))
    assert cache.access(1, 0) is Access.MISS
    assert cache.admit(1, 0) == (0, None)
    assert cache.access(1, 5) is Access.DELAYED
    assert not cache.is_resident(1)
    assert cache.admit(2, 5, prefetch=True) == (1, None)
    assert cache.access(3, 6) is Access.MISS
    assert cache.admit(3, 6) is None  # a demand waits
    assert cache.admit(4, 6, prefetch=True) is None  # a prefetch is dropped
    with pytest.raises(RuntimeError, match="cannot run"):
        cache.start(1)
    cache.arrive(1)
    cache.start(1)
    assert cache.admit(3, 8) is None
    cache.arrive(2)
    assert cache.admit(3, 9) == (1, 2)  # 1 came first, but it runs
    cache.finish(1)
    cache.arrive(3)
    assert cache.access(1, 10) is Access.HIT
    counts = cache.counts
    assert (counts.accesses, counts.hits, counts.delayed_hits, counts.misses) == (4, 1, 1, 2)
    assert (counts.loads, counts.prefetches, counts.prefetches_used, counts.prefetches_dropped) == (2, 1, 0, 1)
    assert counts.evictions == 1


def test_a_demand_takes_the_slot_of_a_later_member_only():
    """1 2 3 will run. A load for 3 may not displace 1 or 2, one for 1 displaces 2; a prefetch displaces no member."""
    cache = new_cache("lru", 2, range(8), Knowledge(1, 8))
    for expert in (1, 2):
        cache.load(expert, 0)
    cache.protect([1, 2, 3])
    assert cache.admit(3, 1) is None
    assert cache.admit(5, 1, prefetch=True) is None
    cache.start(1)
    cache.finish(1)
    assert cache.admit(3, 2) == (0, 1)
    cache.arrive(3)
    assert cache.admit(1, 3) == (0, 3)  # a demand of another queue takes that of the last


def test_what_the_policy_does_not_want_runs_without_a_slot():
    cache = new_cache("static", 1, range(3), Knowledge(1, 3, popularity=[1, 5, 1]))
    assert cache.load(0, 0) is False
    with pytest.raises(RuntimeError, match="expert 0 cannot run"):
        cache.start(0)
    cache.let_through(0)
    cache.start(0)
    cache.finish(0)
    assert cache.load(1, 1)
    assert (cache.counts.loads, cache.counts.declined, cache.slot_of) == (1, 1, {1: 0})
    assert not cache.passing


def prefetched(name, groups, slots):
    """Run groups with LRU, two layers of three; return the members without a slot, by group, and the summed counts."""
    given = knowledge(2, 3, [key for group in groups for key in group.members], groups)
    caches, prefetcher = new_caches("lru", [slots] * given.layers, "layer", given), new_prefetcher(name, given)
    missed = []
    for group in groups:
        missed.append([member for member in group.members if member not in caches[group.layer].slot_of])
        replay_groups([group], caches, prefetcher)
    return missed, caches[0].counts + caches[1].counts


def test_prefetchers_propose_what_they_say():
    """Two layers of three: keys 0 1 2 | 3 4 5; one slot per layer; the same sequence selects 0 4, 1 5, 0 4, 1 5."""
    tokens = [(0, 4), (1, 5), (0, 4), (1, 5)]
    groups = [Group(layer, 7, (key,)) for token in tokens for layer, key in enumerate(token)]
    all_miss = [[0], [4], [1], [5], [0], [4], [1], [5]]
    assert prefetched("none", groups, 1)[0] == all_miss
    missed, counts = prefetched("oracle", groups, 1)
    assert missed == [[0], [], [], [], [], [], [], []]
    assert (counts.misses, counts.prefetches, counts.prefetches_used, counts.transfers) == (1, 7, 7, 8)
    # After 0 follows 4, after 1 follows 5: known from the third token on. The first layer is never proposed.
    missed, counts = prefetched("co-activation", groups, 1)
    assert missed == [[0], [4], [1], [5], [0], [], [1], []]
    # What the token before selected is always wrong here, and it is there already.
    assert prefetched("previous-token", groups, 1)[0] == all_miss
    # 0 and 4 are the first of equals: proposed before every group, so that 1 and 5 miss.
    assert prefetched("popularity", groups, 1)[0] == [[0], [], [1], [5], [], [], [1], [5]]


def test_previous_token_keeps_sequences_apart():
    """Two sequences in turn, each true to itself; one slot per layer. From the second round on nothing misses."""
    rounds = [(7, (0, 3)), (8, (1, 4))] * 3
    groups = [Group(layer, sequence, (key,)) for sequence, token in rounds for layer, key in enumerate(token)]
    missed, _ = prefetched("previous-token", groups, 1)
    # The first layer's group of a pass is proposed after the last layer of the other sequence's pass: it misses.
    assert missed == [[0], [3], [1], [4]] + [[0], [], [1], []] * 2


def test_the_oracle_looks_as_far_as_it_is_told():
    groups = [Group(layer, 0, (3 * layer + token % 3,)) for token in range(4) for layer in range(2)]
    given = knowledge(2, 3, (), groups, look_ahead=3)
    oracle = new_prefetcher("oracle", given)
    oracle.observe(groups[0])
    assert oracle.propose(groups[0]) == [3, 1, 4]
    for group in groups[1:]:
        oracle.observe(group)
    assert oracle.propose(groups[-1]) == []


def refusal(call, *arguments, **options):
    with pytest.raises(InputError) as refused:
        call(*arguments, **options)
    return str(refused.value)


def test_refusals():
    live = Knowledge(2, 4)
    known = ", ".join(sorted(CACHES))
    assert refusal(new_cache, "lur", 2, range(4), live) == f"unknown cache policy 'lur'; known: {known}"
    for slots in (0, 5, -1, 2.0, True):
        line = f"slots is {slots!r}, allowed 1..4, the experts that share them"
        assert refusal(new_cache, "lru", slots, range(4), live) == line
    assert refusal(new_cache, "belady", 2, range(4), live).startswith(
        "cache policy 'belady' needs the accesses to come, which a live run does not have; allowed without: fifo, "
    )
    assert "needs the popularity of every expert" in refusal(new_cache, "static", 2, range(4), live)
    assert "needs the importance of every expert" in refusal(new_cache, "importance", 2, range(4), live)
    assert refusal(key_ranges, "device", 2, 4) == "unknown scope 'device'; known: global, layer"
    known = "co-activation, none, oracle, popularity, previous-token"
    assert refusal(new_prefetcher, "psychic", live) == f"unknown prefetcher 'psychic'; known: {known}"
    line = refusal(new_prefetcher, "oracle", live)
    assert line.startswith("prefetcher 'oracle' needs the groups to come, which a live run does not have")
    assert "look_ahead is 0" in refusal(new_prefetcher, "none", Knowledge(2, 4, look_ahead=0))
    assert len(new_caches("lru", [4, 4], "layer", live)) == 2
    assert len(new_caches("lru", [8], "global", live)) == 1


def test_a_policy_that_breaks_the_rules_is_stopped():
    class Wrong(Cache):
        def victim(self, now, kept):
            return 99

    cache = Wrong(1, range(4), Knowledge(1, 4))
    cache.load(0, 0)
    with pytest.raises(RuntimeError, match="Wrong names 99"):
        cache.load(1, 1)
    with pytest.raises(RuntimeError, match="holds a slot already"):
        cache.admit(0, 2)
