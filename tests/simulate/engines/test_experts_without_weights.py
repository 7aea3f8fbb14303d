"""Selections of experts without weights take no slot, no batch and no time, in both engines and in miss counts."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.simulate.misses.miss_tables import MissPlan, miss_rows
from moe_replay.simulate.policies.memory.expert_worth import known_from
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.routes import computed
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

HERE = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
REAL, ZERO = 6, 2


@pytest.fixture(scope="module")
def trace():
    """Eight experts of which two have no weights; scores, ranked."""
    spec = SyntheticSpec(layers=3, experts=REAL + ZERO, k=3, sequences=6, batch=2, prompt=(3, 6), decode=(2, 5))
    made = synthetic_trace(spec, np.random.default_rng(3), {}).trace
    return replace(made, header=replace(made.header, model=replace(made.header.model, zero_experts=ZERO)))


@pytest.fixture(scope="module")
def without(trace):
    """The same tokens of a model of six experts that never selected the other two."""
    experts_TLK = computed(trace.experts_TLK, trace.header.model)
    model = replace(trace.header.model, experts=REAL, zero_experts=0)
    header = replace(trace.header, model=model, score_kind=None)
    return replace(trace, header=header, experts_TLK=experts_TLK, scores_TLK=None)


def test_the_workload_is_that_of_a_model_without_them(trace, without):
    config = RunConfig(scheduler="queues", queue_size=2, arrivals="all")
    one, other = trace_workload(trace, config), trace_workload(without, config)
    np.testing.assert_array_equal(one.experts_TLK, other.experts_TLK)
    assert one.experts == other.experts == REAL
    assert (trace.experts_TLK >= REAL).any()


@pytest.mark.parametrize("mode", ["flat", "group"])
def test_miss_counts_are_those_of_a_model_without_them(trace, without, mode):
    plan = MissPlan(("lru", "lfu", "belady"), mode=mode, k=3)
    found, expected = (miss_rows(each, plan, known_from(each, 3, plan.needs())) for each in (trace, without))
    assert found == expected
    if mode == "flat":
        assert found[0]["accesses"] == (trace.experts_TLK < REAL).sum()


@pytest.mark.parametrize("memory", [None, MemoryConfig(cache="lru", slots=2, miss="load", expert_bytes=1000)])
def test_both_engines_leave_them_out(trace, without, memory):
    config = RunConfig(scheduler="queues", queue_size=2, arrivals="all", memory=memory)
    known = Known() if memory is not None else None
    tables = []
    for each in (trace, without):
        for engine in ("simpy", "compiled"):
            run = simulate(
                trace_workload(each, config), config, lambda _, block, tokens: 100 + 7 * tokens + block, {}, known, 50,
                engine,
            )  # fmt: skip
            assert run.batches["block"].max() <= REAL
            tables.append([dict(run.passes), dict(run.batches)])
    for other in tables[1:]:
        for one, two in zip(tables[0], other, strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_commands_say_what_takes_no_time_and_is_no_access(trace, tmp_path):
    experts_TLK, scores_TLK = trace.experts_TLK.copy(), trace.scores_TLK.copy()
    experts_TLK[3], scores_TLK[3] = -1, 0  # a token of which no route was captured
    save_trace(replace(trace, experts_TLK=experts_TLK, scores_TLK=scores_TLK), tmp_path / "x.trace.parquet")
    told = (f"3 of {trace.T * 3} rows (token, layer) have no route", "selections (")
    run = ["simulate", "run", "x.trace.parquet", "--affine", "200,5", "--queue-size", "2", "--out", "runs"]
    sweep = [
        "simulate",
        "sweep",
        "x.trace.parquet",
        "--affine",
        "200,5",
        "--axis",
        "queue_size=2",
        "--out",
        "s.parquet",
    ]
    misses = ["simulate", "misses", "x.trace.parquet", "--cache", "lru", "--slots", "2"]
    for words, label in ((run, "no expert's time: "), (sweep, "no expert's time: "), (misses, "no access: ")):
        done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, cwd=tmp_path, env=HERE)
        assert done.returncode == 0, done.stderr
        said = [line.removeprefix(label) for line in done.stdout.splitlines() if line.startswith(label)]
        assert len(said) == 2
        assert all(part in line for part, line in zip(told, said, strict=True))


def test_masked_gating_is_refused(trace):
    memory = MemoryConfig(cache="lru", slots=2, miss="skip", filled=True, expert_bytes=1000)
    with pytest.raises(InputError, match="masked gating is not modelled for a model in which some experts have no"):
        trace_workload(trace, RunConfig(scheduler="queues", queue_size=2, arrivals="all", memory=memory))
