"""Miss counts without time: curves and compiled caches against objects, brute force, theory and published counts."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_replay.simulate.compiled.bounds import VARIABLE
from moe_replay.simulate.misses.access_streams import Stream
from moe_replay.simulate.misses.compiled_replay import Accesses, compiled_counts
from moe_replay.simulate.misses.flat_misses import flat_counts, flat_counts_by_object
from moe_replay.simulate.misses.group_misses import compiled_group_counts, group_counts
from moe_replay.simulate.misses.miss_tables import MissPlan, miss_rows
from moe_replay.simulate.misses.stack_kernels import NARROW, bypass_curve, lru_curve, optimum_curve
from moe_replay.simulate.policies.caches.cache_names import CACHES, key_ranges, new_cache
from moe_replay.simulate.policies.memory.expert_worth import known_from
from moe_replay.simulate.policies.memory.knowledge import Future, Group, Knowledge
from moe_replay.traces.importers.importer_names import import_files
from moe_replay.traces.importers.reading.import_source import Options

REAL = Path(os.environ.get("MOE_REPLAY_TRACES", Path(__file__).resolve().parents[4] / "shared" / "data" / "traces"))
START = np.zeros(1, np.int64)
BYPASS = "belady-bypass"


def one_stream(accesses, experts, starts=(0,)):
    return Stream(np.array(accesses, np.int32), np.array(starts, np.int64), range(experts), None)


def misses(policy, accesses, experts, slots, **known):
    """The misses of a named policy with several numbers of slots, as the command counts them."""
    counts = flat_counts(one_stream(accesses, experts), policy, slots, Knowledge(1, experts, **known), 0)
    return [each.misses for each in counts]


def brute_force(accesses, slots, bypass=False):
    """The fewest misses of any way to serve the accesses: every reachable set of residents is tried.

    Without `bypass` a miss has to take a slot, with it the expert may go through without one.
    """
    fewest = {frozenset(): 0}
    for expert in accesses:
        following = {}
        for held, count in fewest.items():
            if expert in held:
                options = [(held, count)]
            elif len(held) < slots:
                options = [(held | {expert}, count + 1)]
            else:
                options = [(held - {victim} | {expert}, count + 1) for victim in held]
            if bypass and expert not in held:
                options.append((held, count + 1))
            for after, total in options:
                following[after] = min(total, following.get(after, total))
        fewest = following
    return min(fewest.values())


def test_the_optimum_is_what_brute_force_finds():
    rng = np.random.default_rng(0)
    for _ in range(400):
        experts = int(rng.integers(2, 6))
        accesses = rng.integers(experts, size=rng.integers(1, 14))
        found = [brute_force(accesses.tolist(), slots) for slots in range(1, experts + 1)]
        curve = optimum_curve(accesses.astype(np.int32), START, experts)
        assert curve[0] == len(accesses)
        assert curve[1:].tolist() == found
        stream = one_stream(accesses, experts)
        for slots in range(1, experts + 1):
            assert flat_counts_by_object(stream, "belady", slots, Knowledge(1, experts), 0).misses == found[slots - 1]


def test_the_optimum_that_may_decline_is_what_brute_force_finds():
    """At every size, from one pass over one stack: it is a stack algorithm."""
    rng = np.random.default_rng(1)
    for _ in range(400):
        experts = int(rng.integers(2, 6))
        accesses = rng.integers(experts, size=rng.integers(1, 14))
        found = [brute_force(accesses.tolist(), slots, bypass=True) for slots in range(1, experts + 1)]
        curve, _ = bypass_curve(accesses.astype(np.int32), START, experts)
        assert curve[0] == len(accesses)
        assert curve[1:].tolist() == found
        stream = one_stream(accesses, experts)
        for slots in range(1, experts + 1):
            assert flat_counts_by_object(stream, BYPASS, slots, Knowledge(1, experts), 0).misses == found[slots - 1]


def test_the_optimum_that_may_decline_is_the_optimum_of_groups_too():
    """Brute force knows nothing of groups, and yet protecting members costs this optimum nothing."""
    rng = np.random.default_rng(2)
    for _ in range(100):
        experts = int(rng.integers(2, 6))
        groups = [
            Group(0, 0, tuple(sorted(rng.choice(experts, rng.integers(1, experts + 1), replace=False).tolist())))
            for _ in range(rng.integers(1, 6))
        ]
        stream = [member for group in groups for member in group.members]
        for slots in range(1, experts + 1):
            (counts,) = group_counts([groups], BYPASS, slots, "layer", "none", Knowledge(1, experts), 0)
            assert counts.misses == brute_force(stream, slots, bypass=True)


def plain_optimum_hits(accesses, slots):
    """Of the residents and the new expert, the one with the farthest next use goes."""
    held, found = set(), 0
    for now, expert in enumerate(accesses):
        found += expert in held
        held.add(expert)
        if len(held) > slots:
            later = accesses[now + 1 :]
            held.remove(max(held, key=lambda each: later.index(each) if each in later else len(accesses)))
    return found


def test_slots_up_to_k_bound_what_a_token_can_hit():
    """A token draws 4 of 16: C slots hit C / 4 at most. Who must keep what it loads hits less than a fixed set."""
    rng = np.random.default_rng(4)
    accesses = np.concatenate([np.sort(rng.choice(16, 4, replace=False)) for _ in range(300)]).tolist()
    sizes, known = (1, 2, 4, 8), {"popularity": np.bincount(accesses).tolist()}
    declining, keeping, static = (
        [len(accesses) - each for each in misses(policy, accesses, 16, sizes, **known)]
        for policy in (BYPASS, "belady", "static")
    )
    assert declining == [plain_optimum_hits(accesses, slots) for slots in sizes]
    assert all(found <= len(accesses) * slots / 4 for found, slots in zip(declining, sizes, strict=True))
    assert keeping[0] < static[0] < declining[0]
    assert (np.array(declining) >= keeping).all()


@st.composite
def streams(draw):
    """A stream with empty stretches and repeats, of few or many experts."""
    experts = draw(st.sampled_from([1, 2, 5, 11]))
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=4))
    accesses = draw(st.lists(st.integers(0, experts - 1), min_size=sum(lengths), max_size=sum(lengths)))
    return one_stream(accesses, experts, np.cumsum([0, *lengths[:-1]]))


def learned(keys):
    """What policies of a fixed worth are told: two experts are worth the same."""
    worth = [float(each // 2) for each in range(keys)]
    return {"popularity": worth, "importance": worth}


def without_evictions(counts):
    return [replace(each, evictions=0) for each in counts]


@settings(max_examples=60, deadline=None)
@given(streams())
def test_every_policy_counts_what_its_object_counts(stream):
    """By a curve or by the compiled cache, with one number of slots and with all of them; emptied and not."""
    every = range(1, len(stream.keys) + 1)
    known = Knowledge(1, len(stream.keys), **learned(len(stream.keys)))
    for policy in CACHES:
        by_object = without_evictions(flat_counts_by_object(stream, policy, slots, known, 7) for slots in every)
        assert without_evictions(flat_counts(stream, policy, every, known, 7)) == by_object
        assert without_evictions(flat_counts(stream, policy, [slots], known, 7)[0] for slots in every) == by_object


@settings(max_examples=60, deadline=None)
@given(streams())
def test_compiled_caches_count_what_the_policy_objects_count(stream):
    """Curves answer for some of them: here the compiled caches of all policies are asked, evictions included."""
    experts = len(stream.keys)
    known = Knowledge(1, experts, future=Future(()), rng=np.random.default_rng(7), **learned(experts))
    for policy in CACHES:
        for slots in range(1, experts + 1):
            cache = new_cache(policy, slots, stream.keys, known)
            (found,) = compiled_counts(Accesses.of_stream(stream), [cache], experts, 7)
            assert found == flat_counts_by_object(stream, policy, slots, known, 7), (policy, slots)


@st.composite
def stretches_of_groups(draw):
    """Stretches of groups over two layers of few or many experts; layers may go without any."""
    experts = draw(st.sampled_from([1, 2, 5, 11]))
    members = st.sets(st.integers(0, experts - 1), min_size=1, max_size=experts).map(sorted)
    groups = st.tuples(st.integers(0, 1), members).map(
        lambda each: Group(each[0], 0, tuple(each[0] * experts + member for member in each[1]))
    )
    return experts, draw(st.lists(st.lists(groups, min_size=1, max_size=40), min_size=1, max_size=3))


@settings(max_examples=60, deadline=None)
@given(stretches_of_groups())
def test_compiled_caches_of_groups_count_what_the_policy_objects_count(drawn):
    experts, stretches = drawn
    known = Knowledge(2, experts, **learned(2 * experts))
    for scope in ("layer", "global"):
        ranges = key_ranges(scope, 2, experts)
        accesses, every = Accesses.of_groups(stretches, ranges), range(1, len(ranges[0]) + 1)
        for policy in CACHES:
            found = compiled_group_counts(accesses, policy, every, scope, known, 7)
            for slots, counts in zip(every, found, strict=True):
                expected = group_counts(stretches, policy, slots, scope, "none", known, 7)
                if policy == BYPASS:
                    expected = without_evictions(expected)
                assert list(counts) == expected, (policy, scope, slots)


@settings(max_examples=30, deadline=None)
@given(stretches_of_groups())
def test_the_compiled_optimum_that_may_decline_counts_what_its_object_counts(drawn):
    experts, stretches = drawn
    known = Knowledge(2, experts, future=Future(()))
    accesses = Accesses.of_groups(stretches, [range(2 * experts)])
    for slots in range(1, 2 * experts + 1):
        cache = new_cache(BYPASS, slots, range(2 * experts), known)
        expected = group_counts(stretches, BYPASS, slots, "global", "none", known, 0)
        assert compiled_counts(accesses, [cache], experts, 0) == expected


@pytest.mark.parametrize("experts", [NARROW - 1, NARROW, NARROW + 1, 600])
def test_ranks_of_one_byte_and_wider_ones(experts):
    """Every expert is used, so that the deepest rank occurs; the compiled cache knows no ranks."""
    rng = np.random.default_rng(0)
    accesses = np.concatenate([rng.permutation(experts) for _ in range(3)] + [rng.integers(experts, size=3000)])
    curve = lru_curve(accesses.astype(np.int32), START, experts)
    assert curve[experts] == experts
    stream = one_stream(accesses, experts)
    for slots in (1, 7, experts // 2, experts - 1, experts):
        cache = new_cache("lru", slots, stream.keys, Knowledge(1, experts))
        assert curve[slots] == compiled_counts(Accesses.of_stream(stream), [cache], experts, 0)[0].misses
        assert curve[slots] == misses("lru", accesses, experts, [slots])[0]


def test_no_policy_beats_the_optimum_and_more_slots_never_hurt_a_stack():
    rng = np.random.default_rng(3)
    accesses = rng.choice(24, 4000, p=(weight := np.arange(1, 25) ** -0.9) / weight.sum())
    every = range(1, 25)
    optimum = misses("belady", accesses, 24, every)
    lru = misses("lru", accesses, 24, every)
    for curve in (optimum, lru):
        assert (np.diff(curve) <= 0).all()
        assert curve[-1] == len(set(accesses.tolist()))
    for policy in ("lru", "fifo", "lfu", "sieve", "s3fifo", "lifo", "random", "lfru"):
        assert (np.array(misses(policy, accesses, 24, [2, 6, 12, 23])) >= np.array(optimum)[[1, 5, 11, 22]]).all()


def test_belady_anomaly():
    accesses = [1, 2, 3, 4, 1, 2, 5, 1, 2, 3, 4, 5]
    assert misses("fifo", accesses, 6, [3, 4]) == [9, 10]


@pytest.mark.parametrize(("experts", "slots"), [(3, 2), (5, 2), (7, 4), (16, 12)])
def test_cyclic_scan(experts, slots):
    """Steady state, exactly: whole periods of MIN and MRU hold N - 1 rounds of N, so count that many after warm-up."""
    rounds = experts * (experts - 1)
    scan = np.tile(np.arange(experts), 4 * rounds)
    warm = 2 * rounds * experts

    def steady(policy):
        return (misses(policy, scan, experts, [slots])[0] - misses(policy, scan[:warm], experts, [slots])[0]) / warm

    assert steady("lru") == steady("fifo") == 1
    assert steady("lifo") == (experts - slots + 1) / experts
    # The optimum sees the end of the stream coming: at most one round without a miss that an endless scan would have.
    assert steady("belady") == pytest.approx((experts - slots) / (experts - 1), abs=experts / warm)
    assert steady("lifo-use") == pytest.approx((experts - slots) / (experts - 1), abs=experts / warm)


@pytest.mark.parametrize(
    ("experts", "alpha", "slots", "lru", "static"),
    [(64, 1.0, 8, 0.40432, 0.57292), (64, 1.0, 32, 0.79318, 0.85552), (128, 0.8, 16, 0.3274, 0.49293)],
)
def test_independent_accesses(experts, alpha, slots, lru, static):
    """Hit ratios under Zipf: Che's approximation for LRU (within 0.003), the sum of the largest p for static."""
    p = np.arange(1, experts + 1) ** -alpha
    accesses = np.random.default_rng(0).choice(experts, 200_000, p=p / p.sum())
    hits = 1 - np.array(misses("lru", accesses, experts, [slots])) / len(accesses)
    assert hits[0] == pytest.approx(lru, abs=0.003)
    hits = 1 - np.array(misses("static", accesses, experts, [slots], popularity=p.tolist())) / len(accesses)
    assert hits[0] == pytest.approx(static, abs=4 * np.sqrt(static * (1 - static) / len(accesses)))


def published(name):
    path = REAL / "deepseek-v2-lite" / f"{name}.npz"
    if not path.exists():
        pytest.skip(f"needs the published trace deepseek-v2-lite/{name}.npz, which is not part of the project")
    return import_files("npz", [path], Options(experts=64, phase="prefill"))


@pytest.mark.parametrize(
    ("name", "accesses", "hits"),
    [("law", 1_299_012, [378_775, 608_771, 921_061]), ("intent", 1_282_632, [332_479, 588_818, 887_718])],
)
def test_published_lru_counts(name, accesses, hits):
    """LRU per layer, emptied at each sequence start, in stored order."""
    trace = published(name)
    plan = MissPlan(("lru",), (8, 16, 32), mode="flat", emptied="sequence")
    rows = [row for row in miss_rows(trace, plan, known_from(trace, None, set())) if row["layer"] == "all"]
    assert [(row["accesses"], row["hits"]) for row in rows] == [(accesses, each) for each in hits]


def test_no_count_goes_beyond_the_bounds_of_arrays(tmp_path):
    """The tests of counts once more, in a process that checks every index: numba's own check, and the checked form."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "counts_what or count_what"],
        cwd=Path(__file__).parents[3], capture_output=True, text=True,
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1", VARIABLE: "1", "NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
