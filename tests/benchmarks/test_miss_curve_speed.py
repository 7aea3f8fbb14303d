"""Seconds for miss counts of 5 million accesses of 64 experts, beside libcachesim's own `process_trace`.

    python -m pytest tests/benchmarks/test_miss_curve_speed.py -o addopts="" --benchmark-columns=min,median,rounds -s

Targets: the whole LRU curve at least 50 times faster than one run of libcachesim per number of slots, the optimum's at
least 30 times; LRU with one number of slots, for which its whole curve is made, at least 5 times for C <= E/4, 2.5
times above. FIFO and LFU are replayed by the compiled caches of the engine and have no target. A slow or busy machine
fails nothing here; another miss count than libcachesim's does, for every number of slots.

Both are measured in seconds of CPU, in turn. libcachesim reads its own binary format, with next accesses stored in it,
from a file in memory; building its cache and opening the file are not counted, and its hash table has the
size, default or small, that is faster in a trial. Our seconds include everything from the array of accesses on: the
optimum's next accesses are found anew each time.
"""

import time

import numpy as np
import pytest

from moe_replay.simulate.misses.access_streams import Stream, flat_streams
from moe_replay.simulate.misses.flat_misses import flat_counts
from moe_replay.simulate.misses.stack_kernels import lru_curve, optimum_curve
from moe_replay.simulate.policies.memory.knowledge import Knowledge
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

libcachesim = pytest.importorskip("libcachesim", reason="needs libcachesim, beside which seconds are measured")

E, K, TOKENS = 64, 8, 625_000
ACCESSES = TOKENS * K
CURVES = {"LRU": (lru_curve, 50), "Belady": (optimum_curve, 30)}
START = np.zeros(1, np.int64)


@pytest.fixture(scope="module")
def expert_A():
    """The accesses of one layer: Zipf-like popularity, a third of the tokens repeat the one before."""
    spec = SyntheticSpec(
        layers=1, experts=E, k=K, sequences=TOKENS // 50, prompt=(25, 25), decode=(25, 25), scores=False
    )
    (stream,) = flat_streams(synthetic_trace(spec, np.random.default_rng(0)).trace, None, "layer")
    assert len(stream.expert_A) == ACCESSES
    return stream.expert_A


@pytest.fixture(scope="module")
def reader(expert_A, tmp_path_factory):
    """The same accesses in libcachesim's format: its requests are numbered from 1."""
    order = np.argsort(expert_A, kind="stable")
    again = np.flatnonzero(np.diff(expert_A[order]) == 0)
    record = np.dtype([("time", "<u4"), ("id", "<u8"), ("size", "<u4"), ("next", "<i8")])
    records = np.zeros(ACCESSES, record)
    records["time"], records["id"], records["size"], records["next"] = np.arange(ACCESSES), expert_A + 1, 1, -1
    records["next"][order[again]] = order[again + 1] + 1
    path = tmp_path_factory.mktemp("libcachesim") / "accesses.oracle.bin"
    records.tofile(path)
    return libcachesim.TraceReader(str(path), libcachesim.TraceType.ORACLE_GENERAL_TRACE)


def its_run(reader, policy, slots, hashpower, most=-1):
    """Return (misses, seconds of CPU) of one run of libcachesim."""
    cache = getattr(libcachesim, policy)(cache_size=slots, hashpower=hashpower)
    reader.reset()
    started = time.process_time()
    ratio, _ = cache.process_trace(reader, max_req=most)
    return round(ratio * ACCESSES), time.process_time() - started


def faster_hash(reader, policy):
    """Return the size of libcachesim's hash table, its default or a small one, with which a trial is faster."""
    trial = {power: [] for power in (24, 10)}
    for _ in range(3):
        for power, seconds in trial.items():
            seconds += [its_run(reader, policy, slots, power, most=500_000)[1] for slots in (4, 16, 48)]
    return min(trial, key=lambda power: np.median(trial[power]))


def our_run(count, *arguments):
    """Return (result, seconds of CPU)."""
    started = time.process_time()
    result = count(*arguments)
    return result, time.process_time() - started


def spread(values):
    """Median and range, as text."""
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("policy", CURVES)
def test_whole_curve(benchmark, expert_A, reader, policy):
    count, target = CURVES[policy]
    arguments = (expert_A, START, E)
    curve = benchmark.pedantic(count, arguments, rounds=5, warmup_rounds=1)
    power = faster_hash(reader, policy)
    ours, its = [], []
    for _ in range(3):  # three passes over all numbers of slots, ours between its runs
        total = 0.0
        for slots in range(1, E + 1):
            misses, seconds = its_run(reader, policy, slots, power)
            total += seconds
            assert misses == curve[slots]
            if slots % 16 == 1:
                ours.append(our_run(count, *arguments)[1])
        its.append(total)
    ratio = np.median(its) / np.median(ours)
    summary = {
        "policy": policy, "ratio": round(float(ratio), 1), "target": target, "ours_s": spread(ours),
        "its_s": spread(its), "its_hashpower": power,
        "ours_ns_per_access": round(float(np.median(ours)) / ACCESSES * 1e9, 2),
    }  # fmt: skip
    benchmark.extra_info.update(summary)
    print(f"\n{summary}")


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("policy", "its"), [("lru", "LRU"), ("fifo", "FIFO"), ("lfu", "LFU")])
def test_one_number_of_slots(benchmark, expert_A, reader, policy, its):
    stream = Stream(expert_A, START, range(E), 0)

    def count(slots):
        return flat_counts(stream, policy, [slots], Knowledge(1, E), 0)[0].misses

    benchmark.pedantic(count, (16,), rounds=5, warmup_rounds=1)
    power = faster_hash(reader, its)
    for slots in (1, 2, 4, 8, 12, 16, 17, 24, 32, 33, 48, 63, 64):
        ours_s, its_s = [], []
        for _ in range(7):
            misses, seconds = its_run(reader, its, slots, power)
            its_s.append(seconds)
            found, seconds = our_run(count, slots)
            ours_s.append(seconds)
            assert found == misses
        summary = {
            "ratio": round(float(np.median(its_s) / np.median(ours_s)), 1),
            "target": {"lru": 5 if 4 * slots <= E else 2.5}.get(policy),
            "ours_ms": spread(np.array(ours_s) * 1e3), "its_ms": spread(np.array(its_s) * 1e3),
        }  # fmt: skip
        benchmark.extra_info[f"{policy}, C={slots}"] = summary
        print(f"\n{policy}, C={slots}: {summary}")
