"""Selections per second of the compiled engine, without and with expert memory, and how often others' speed that is.

    python -m pytest tests/benchmarks/test_compiled_engine_speed.py -o addopts="" --benchmark-columns=min,rounds -s

World: L=24, E=64, K=4, B=16, random selections, costs 20,000 + 1,500 n ns. Targets on one core: 10 million selections/s
without caches, 3 million with caches and links; 200 times a SimPy model with one process per token and 15 times the
SimPy reference engine. Counted is the whole of `simulate`: arrays, loop and record tables (under `belady` also the run
that tells the order of accesses); beside it is what each part takes. All are seconds of the processor, after one
run that compiles or loads machine code. A slow machine fails nothing here; other records than the reference's do, and
doing less than all of the work.
"""

import time
from dataclasses import replace

import numpy as np
import pytest
from large_worlds import COST, B, E, K, L, assert_complete, random_workload
from process_per_token import LeanProcessPerToken, ProcessPerToken, run_processes

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.run_grid import capacity_per_s
from moe_replay.simulate.engines.compiled_engine import CompiledRun, order_of
from moe_replay.simulate.engines.engine_choice import simulate

ROUNDS = 5
CLOSED = {"queue_size": B, "arrivals": "closed", "in_flight": 8192}
RESIDENT = {
    "closed": RunConfig(**CLOSED, dense=False), "closed-dense": RunConfig(**CLOSED),
    "all": RunConfig(queue_size=B, dense=False), "all-dense": RunConfig(queue_size=B),
}  # fmt: skip
# A transfer takes 40 us, a full batch 44 us: the link is about as busy as the device, and both at once.
KEPT = MemoryConfig(link_latency_ns=10_000, link_bytes_per_s=1e9, expert_bytes=30_000)
MEMORIES = {
    f"{cache}-C{slots}-{prefetch}": replace(KEPT, cache=cache, slots=slots, prefetch=prefetch)
    for cache in ("lru", "lifo", "belady") for slots in (16, 32) for prefetch in ("none", "previous-token")
}  # fmt: skip


def seconds_of(call, *arguments, **named):
    """Return (seconds of the processor, result) of one call."""
    started = time.process_time()
    result = call(*arguments, **named)
    return time.process_time() - started, result


def seconds_by_part(workload, config):
    """Return the seconds of the parts of one run of the compiled engine."""
    parts, order = {}, None
    if config.memory is not None and config.memory.needs_order:
        parts["order"], order = seconds_of(order_of, workload, config, COST, None)
    parts["arrays"], made = seconds_of(CompiledRun, workload, config, COST, order=order)
    parts["loop"], _ = seconds_of(made.run)
    parts["tables"], _ = seconds_of(made.records, {"config": {}})
    return parts


def measure(benchmark, workload, config, target):
    """Run the whole and its parts in turn; report selections per second."""
    runs, parts = [], []

    def once():
        seconds, records = seconds_of(simulate, workload, config, COST, {"config": {}}, engine="compiled")
        runs.append(seconds)
        parts.append(seconds_by_part(workload, config))
        return records

    records = benchmark.pedantic(once, rounds=ROUNDS, warmup_rounds=1)
    assert_complete(records, workload)
    count = workload.experts_TLK.size
    in_part = {name: float(np.median([each[name] for each in parts[1:]])) for name in parts[0]}
    summary = {
        "selections": count, "batches": len(records.batches["size"]),
        "million_per_s": round(count / float(np.median(runs[1:])) / 1e6, 2),
        "best_million_per_s": round(count / min(runs[1:]) / 1e6, 2), "target_million_per_s": target,
        "loop_alone_million_per_s": round(count / in_part["loop"] / 1e6, 2),
        "seconds": {name: round(seconds, 3) for name, seconds in in_part.items()},
    }  # fmt: skip
    return records, summary


def report(benchmark, **summary):
    benchmark.extra_info.update(summary)
    print(f"\n{dict(summary)}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", RESIDENT)
def test_resident(benchmark, name):
    _, summary = measure(benchmark, random_workload(10_000_000), RESIDENT[name], target=10)
    report(benchmark, name=name, **summary)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MEMORIES)
def test_with_memory(benchmark, name):
    config = RunConfig(**CLOSED, dense=False, memory=MEMORIES[name])
    records, summary = measure(benchmark, random_workload(2_000_000), config, target=3)
    found, ended = records.header["memory"], records.transfers
    assert found["accesses"] == len(records.batches["size"])
    assert found["loads"] + found["prefetches"] == len(ended["slot"]) > 0
    moving_ns, all_ns = int((ended["end_ns"] - ended["start_ns"]).sum()), int(records.passes["end_ns"].max())
    report(
        benchmark, name=name, **summary, hits=round(found["hits"] / found["accesses"], 3),
        link_busy=round(moving_ns / all_ns, 2), transfers=len(ended["slot"]),
    )  # fmt: skip


def make_common(selections, layers, experts, k, size):
    """Return a world that every engine plays: Poisson arrivals at load 0.8, no dense part."""
    workload = random_workload(selections, layers, experts, k)
    rate_per_s = 0.8 * capacity_per_s(workload, COST, size, dense=False, devices=1)
    config = RunConfig(queue_size=size, arrivals="poisson", rate_per_s=rate_per_s, seed=0, dense=False)
    return workload, config


TARGETS = {"reference": 15, "process_per_token": 200}
# Long enough for a run to be more than its beginning and its end, in which queues do not fill.
COMMON = {"L4-E8-K2-B4": (200_000, 4, 8, 2, 4), "L24-E64-K4-B16": (1_000_000, L, E, K, B)}
MODELS = {"process_per_token": ProcessPerToken, "lean_process_per_token": LeanProcessPerToken}


def by_engine(engine):
    return lambda workload, config: simulate(workload, config, COST, {"config": {}}, engine=engine)


def side_by_side(calls, workload, config, rounds=3):
    """Return {name: median seconds}, all run in turn, the compiled engine, which is short, several times."""
    seconds = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            for _ in range(5 if name == "compiled" else 1):
                seconds[name].append(seconds_of(call, workload, config)[0])
    return {name: float(np.median(times)) for name, times in seconds.items()}


def assert_equal_records(found, expected):
    for kind in ("passes", "batches", "transfers"):
        columns, others = getattr(expected, kind), getattr(found, kind)
        assert (columns is None) == (others is None)
        for name in columns or ():
            np.testing.assert_array_equal(others[name], columns[name], err_msg=f"{kind}.{name}")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("shape", COMMON)
def test_beside_others(benchmark, shape):
    workload, config = make_common(*COMMON[shape])
    calls = {"compiled": by_engine("compiled"), "reference": by_engine("simpy")}
    for name, model in MODELS.items():
        calls[name] = lambda workload, config, model=model: run_processes(model, workload, config, COST)
    found = benchmark.pedantic(calls["compiled"], (workload, config), rounds=ROUNDS, warmup_rounds=1)
    assert_equal_records(found, calls["reference"](workload, config))
    assert_complete(found, workload)
    for name in MODELS:
        assert sum(calls[name](workload, config)) == workload.experts_TLK.size
    report(benchmark, world=shape, **ratios(side_by_side(calls, workload, config), workload))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("cache", ["lru", "belady"])
def test_beside_the_reference_with_memory(benchmark, cache):
    workload, config = make_common(*COMMON["L24-E64-K4-B16"])
    config = replace(config, memory=replace(KEPT, cache=cache, slots=16, prefetch="previous-token"))
    calls = {"compiled": by_engine("compiled"), "reference": by_engine("simpy")}
    found = benchmark.pedantic(calls["compiled"], (workload, config), rounds=ROUNDS, warmup_rounds=1)
    assert_equal_records(found, calls["reference"](workload, config))
    assert_complete(found, workload)
    report(benchmark, cache=cache, **ratios(side_by_side(calls, workload, config, rounds=2), workload))


def ratios(seconds, workload):
    """Return selections per second of all, and how many times faster the compiled engine is."""
    count, found = workload.experts_TLK.size, {"selections": workload.experts_TLK.size}
    for name, each in seconds.items():
        found[f"{name}_per_s"] = round(count / each)
        found[f"times_{name}"] = round(each / seconds["compiled"], 1)
        if name in TARGETS:
            found[f"target_times_{name}"] = TARGETS[name]
    return found
