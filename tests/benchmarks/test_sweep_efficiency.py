"""Efficiency of a sweep: 64 points of about a second on two cores, beside the same points one after another.

    python -m pytest tests/benchmarks/test_sweep_efficiency.py -o addopts="" -s

Target: at least 90 % of two cores, the start of the two processes included. The grid is swept in four parts, each by
one process and by two in turn, so that a change of the machine's speed meets both alike. Other programs that take a
core away cost two processes more than one: beside the clock's efficiency is the share of the processor's time that
went into the points. A slow machine fails nothing here; other results than one process gives do.
"""

import os
import resource
import time
from dataclasses import replace

import numpy as np
from joblib.externals.loky import get_reusable_executor

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.shared_inputs import Study
from moe_replay.simulate.sweeps.sweep import sweep
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.runs.sweep_table import load_sweep
from moe_replay.traces.selections import Trace

POINTS, PARTS, JOBS, TARGET = 64, 4, 2, 0.90
POINT_S = 1.0


def make_study(folder):
    """Write a trace of 2,000 sequences of one token, 8 layers, 4 of 16 experts."""
    rng = np.random.default_rng(0)
    experts_TLK = np.argsort(rng.random((2000, 8, 16)), axis=2)[:, :, :4].astype(np.int16)
    ids, zeros = np.arange(2000, dtype=np.int32), np.zeros(2000, np.int32)
    header = Header(
        model=ModelInfo(name="toy", experts=16, used_k=4, layer_ids=tuple(range(8))), gate_rule="top-k", ranked=True,
        score_kind=None, device="none", data={"name": None, "digest": None, "note": None},
    )  # fmt: skip
    trace = Trace(
        header=header, experts_TLK=experts_TLK, sequence_T=ids, position_T=zeros, step_T=ids,
        phase_T=np.zeros(2000, np.int8),
    )  # fmt: skip
    save_trace(trace, folder / "even.trace.parquet")
    return Study(folder / "even.trace.parquet", affine="20000,2000", engine="simpy")


def make_grid(study, folder):
    """Return 64 configurations of one kind, each of about a second on this machine."""
    config = RunConfig(queue_size=16, arrivals="closed", in_flight=512, seed=0)
    started = time.process_time()
    sweep(study, {"first": config}, folder / "first.parquet", jobs=1)
    took_s = time.process_time() - started
    sequences = max(200, round(2000 * POINT_S / took_s))
    return {
        each.name: each for seed in range(POINTS) for each in [replace(config, seed=seed, sequences=sequences)]
    }  # fmt: skip


class Meter:
    """Adds up the time of sweeps, by the clock and by the processor, of this process and of those that have ended."""

    def __init__(self):
        self.clock_s = self.processor_s = 0.0

    def __enter__(self):
        self.started = time.perf_counter(), processor_s()
        return self

    def __exit__(self, *error):
        self.clock_s += time.perf_counter() - self.started[0]
        self.processor_s += processor_s() - self.started[1]


def processor_s():
    """Return the processor's seconds of this process and of the children that have ended."""
    return sum(
        resource.getrusage(whose)[i] for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN) for i in (0, 1)
    )


def sweep_in_parts(study, configs, folder, alone, together):
    """Sweep the grid part by part, by one process and by two; the two are started once and stay."""
    names = list(configs)
    for number in range(PARTS):
        part = {name: configs[name] for name in names[number::PARTS]}
        tables = {jobs: folder / f"{number}-by-{jobs}.parquet" for jobs in (1, JOBS)}
        with alone:
            sweep(study, part, tables[1], jobs=1)
        with together:
            sweep(study, part, tables[JOBS], jobs=JOBS)
        assert tables[1].read_bytes() == tables[JOBS].read_bytes()  # all of the work was done, and the same
        assert len(load_sweep(tables[JOBS])[0]) == POINTS // PARTS
    ended = processor_s()
    get_reusable_executor().shutdown(wait=True)
    together.processor_s += processor_s() - ended


def test_sweep_efficiency(benchmark, tmp_path):
    study = make_study(tmp_path)
    configs = make_grid(study, tmp_path)
    get_reusable_executor().shutdown(wait=True)
    alone, together = Meter(), Meter()
    benchmark.pedantic(sweep_in_parts, (study, configs, tmp_path, alone, together), rounds=1, iterations=1)
    benchmark.extra_info.update(
        points=POINTS, point_s=round(alone.processor_s / POINTS, 2), jobs=JOBS, target=TARGET,
        efficiency=round(alone.clock_s / (JOBS * together.clock_s), 3),
        share_of_processor_time_in_points=round(alone.processor_s / together.processor_s, 3),
        load_of_the_machine=round(os.getloadavg()[0], 1),
    )  # fmt: skip
    print(f"\n{benchmark.extra_info}")
