"""Times to the first token and per further one: small worlds worked out by hand, and what both engines record."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from moe_replay.analysis.estimates.replications import combined, steady
from moe_replay.analysis.tables.what_if import NO_TOKENS, runs_table, shown
from moe_replay.simulate.config.costs import affine
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.traces.new_traces import synthetic
from moe_replay.traces.runs.run_records import PASS_COLUMNS, PHASED_PASS_COLUMNS, load_run
from moe_replay.traces.runs.run_statistics import run_statistics
from moe_replay.traces.runs.served_sequences import served_sequences
from moe_replay.traces.runs.time_statistics import TOKEN_TIMES

PROMPT, DECODE = 0, 1
# (sequence, phase, tokens, end) of passes, one sequence after another; all arrive at 5.
TALK = [
    (0, PROMPT, 4, 10), (0, PROMPT, 4, 30), (0, DECODE, 1, 50), (0, DECODE, 1, 90),  # a prompt in two chunks
    (1, DECODE, 1, 20), (1, DECODE, 1, 60),  # recorded without its prompt
    (2, PROMPT, 9, 70),  # one token, and no more
    (3, PROMPT, 2, 15), (3, DECODE, 1, 25), (3, PROMPT, 7, 65), (3, DECODE, 1, 80),  # two turns
    (4, PROMPT, 2, 11), (4, DECODE, 3, 23),  # three tokens at once
    (4, PROMPT, 2, 12), (4, DECODE, 3, 42),  # served again
]  # fmt: skip
FIRST = [25, 15, 65, 10, 6, 7]
PER_TOKEN = [(20 + 40) / 2, 40 / 1, None, (10 + 15) / 2, 12 / 3, 30 / 3]


def passes_of(rows):
    """A table of passes; steps ascend within every sequence that is served."""
    sequence, phase, tokens, end = (np.array(column) for column in zip(*rows, strict=True))
    step = [0]
    for before, row in pairwise(rows):
        step.append(0 if row[0] != before[0] or row[3] < before[3] else step[-1] + 1)
    columns = {
        "pass_id": np.arange(len(rows)), "sequence": sequence, "step": step, "tokens": tokens,
        "arrival_ns": np.full(len(rows), 5), "start_ns": np.full(len(rows), 5), "end_ns": end, "phase": phase,
    }  # fmt: skip
    return {name: np.asarray(columns[name]).astype(dtype) for name, dtype in PHASED_PASS_COLUMNS.items()}


@pytest.mark.parametrize("shuffled", [False, True])
def test_tokens_of_a_small_world(shuffled):
    passes = passes_of(TALK)
    if shuffled:
        order = np.random.default_rng(0).permutation(len(TALK))
        passes = {name: values[order] for name, values in passes.items()}
    served = served_sequences(passes)
    assert (served.first_token_ns - served.arrival_ns).tolist() == FIRST
    per_token = [ns / tokens if tokens else None for ns, tokens in zip(served.decoding_ns, served.further, strict=True)]
    assert per_token == PER_TOKEN


def test_without_phases_nothing_is_told_of_tokens():
    passes = passes_of(TALK)
    del passes["phase"]
    assert served_sequences(passes).further is None


@pytest.fixture(scope="module")
def trace():
    """Sequences of a prompt and a few decoded tokens each."""
    return synthetic(sequences=60, layers=2, experts=4, k=1, prompt=(3, 9), decode=(1, 5), seed=1)


def served(trace, engine="compiled", **fields):
    config = RunConfig(**{"arrivals": "closed", "in_flight": 4, "seed": 0, **fields})
    header = {"source": "simulated", "config": config.as_dict(), "trace_digest": "t"}
    return simulate(trace_workload(trace, config), config, affine(1000, 100), header, engine=engine)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_tokens_of_a_run_are_those_of_its_passes(trace, engine, tmp_path):
    records = served(trace, engine)
    records.save(tmp_path, "run", compact=True)
    assert (load_run(tmp_path, "run").passes["phase"] == records.passes["phase"]).all()
    to_first, per_token = [], []
    for sequence in np.unique(trace.sequence_T):
        mine = {name: column[records.passes["sequence"] == sequence] for name, column in records.passes.items()}
        first = mine["end_ns"][mine["phase"] == PROMPT].max()
        to_first.append(first - mine["arrival_ns"].min())
        decoded = mine["tokens"][mine["phase"] == DECODE].sum()
        assert decoded == ((trace.sequence_T == sequence) & (trace.phase_T == DECODE)).sum()
        per_token.append((mine["end_ns"].max() - first) / decoded)
    whole = run_statistics(records).whole
    for name, values in (("ttft", to_first), ("tpot", per_token)):
        assert whole[f"{name}_mean_ms"] == pytest.approx(np.mean(values) / 1e6)
        assert whole[f"{name}_p95_ms"] == pytest.approx(np.percentile(values, 95) / 1e6)


def test_seeds_give_intervals_and_an_overload_has_no_times(trace):
    runs = [run_statistics(served(trace, seed=seed)) for seed in range(3)]
    row = combined(runs)
    for name in TOKEN_TIMES:
        values = [run.whole[name] if row["values_of"] != "window" else run.values[name] for run in runs]
        assert row[name] == pytest.approx(np.mean(values))
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    flooded = run_statistics(served(trace, arrivals="poisson", in_flight=None, rate_per_s=1e6, sequences=600))
    assert flooded.status == "unstable"
    assert all(np.isnan(flooded.values[name]) and np.isnan(combined([flooded])[name]) for name in TOKEN_TIMES)
    assert all(np.isnan(steady({**row, "status": "short"})[name]) for name in TOKEN_TIMES)


def test_seeds_that_were_recorded_before_and_after_are_one_row(trace):
    """A folder of runs that was begun before passes had a phase, and continued since."""
    runs = [served(trace, seed=seed) for seed in range(2)]
    without = {name: column for name, column in runs[0].passes.items() if name != "phase"}
    for first, second in ((without, runs[1].passes), (runs[1].passes, without)):
        row = combined([run_statistics(replace(runs[0], passes=passes)) for passes in (first, second)])
        assert row["latency_p95_ms"] > 0
        assert not [name for name in row if name.startswith(("ttft", "tpot"))]


def test_a_table_says_why_rows_have_no_times_of_tokens(trace, tmp_path):
    prompts = synthetic(sequences=60, layers=2, experts=4, k=1, prompt=1, decode=0, seed=1)
    records = served(prompts)
    assert list(records.passes) == list(PASS_COLUMNS)
    records.save(tmp_path, "prompts")
    text, said = shown(runs_table(tmp_path))
    assert NO_TOKENS in said
    assert "TTFT p95" not in text
    served(trace, queue_size=2).save(tmp_path, "talks")
    text, said = shown(runs_table(tmp_path))
    assert list(text["TTFT p95"] == "") == [True, False]
    assert f"row 1 {NO_TOKENS}" in said
