"""Selections per second of the reference engine, beside a model with one SimPy process per token.

    python -m pytest tests/benchmarks/test_engine_speed.py -o addopts="" --benchmark-columns=min,median,rounds -s

World: T=2000, L=4, K=2, E=8, B=4, Poisson arrivals at load 0.8, no dense part. Target: 200,000 selections/s on one
core. A slow machine fails nothing here; doing less work than the whole does.
"""

import time

import numpy as np
from process_per_token import LeanProcessPerToken, run_processes

from moe_replay.simulate.config.costs import affine
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.run_grid import capacity_per_s
from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.engines.simpy_engine import Engine

T, L, K, E, B, LOAD = 2000, 4, 2, 8, 4, 0.8
TARGET_PER_S = 200_000
COST = affine(1000, 500)


def make_world():
    """Return the workload and its configuration."""
    rng = np.random.default_rng(0)
    experts_TLK = np.argsort(rng.random((T, L, E)), axis=2)[:, :, :K].astype(np.int16)
    ids = np.arange(T, dtype=np.int32)
    workload = build_workload(experts_TLK, ids, ids, E)
    rate_per_s = LOAD * capacity_per_s(workload, COST, B, dense=False, devices=1)
    return workload, RunConfig(queue_size=B, arrivals="poisson", rate_per_s=rate_per_s, seed=0, dense=False)


def run_engine(workload, config, cost):
    """Return the sizes of the batches of one run, built and run anew."""
    engine = Engine(workload, config, cost)
    engine.run()
    return [len(batch.members) for batch in engine.replay.recording.batches]


def run_lean_processes(workload, config, cost):
    """Return the sizes of the batches of one run of the faster of the two models."""
    return run_processes(LeanProcessPerToken, workload, config, cost)


def side_by_side(workload, config, rounds=5):
    """Return the median seconds of CPU of both, run in turn: other load on the machine meets both alike."""
    seconds = {run_engine: [], run_lean_processes: []}
    for _ in range(rounds):
        for run, times in seconds.items():
            started = time.process_time()
            run(workload, config, COST)
            times.append(time.process_time() - started)
    return (float(np.median(times)) for times in seconds.values())


def test_engine_speed(benchmark):
    workload, config = make_world()
    sizes = benchmark.pedantic(run_engine, (workload, config, COST), rounds=9, warmup_rounds=1)
    baseline_sizes = run_lean_processes(workload, config, COST)
    assert sum(sizes) == sum(baseline_sizes) == T * L * K
    assert abs(len(baseline_sizes) - len(sizes)) <= L * E  # the rest at the end is forced in other portions
    engine_s, baseline_s = side_by_side(workload, config)
    benchmark.extra_info.update(
        selections_per_s_by_wall_clock=round(T * L * K / benchmark.stats["median"]),
        selections_per_s_of_cpu=round(T * L * K / engine_s),
        process_per_token_per_s_of_cpu=round(T * L * K / baseline_s),
        ratio=round(baseline_s / engine_s, 2), target_per_s=TARGET_PER_S,
        batches=len(sizes), process_per_token_batches=len(baseline_sizes),
    )  # fmt: skip
    print(f"\n{benchmark.extra_info}")
