"""`python -m simulate`: grids written, complete runs kept, executed configurations repeated, bad input refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.config.costs import CostModel
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.simulate.sweeps.run_folder import Runs, choices_only
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.runs.cost_table import CostTable
from moe_replay.traces.runs.run_records import RunRecords, load_run, run_names
from moe_replay.traces.selections import Trace

ROOT = Path(__file__).resolve().parents[3]


def toy_trace(seed=0):
    """Forty sequences of one token; three layers, six experts, all of them recorded with scores and labels."""
    scores_TLE = np.random.default_rng(seed).random((40, 3, 6)).astype(np.float32)
    experts_TLK = np.argsort(-scores_TLE, axis=2).astype(np.int16)
    header = Header(
        model=ModelInfo(name="toy", experts=6, used_k=2, layer_ids=(0, 1, 2)), gate_rule="top-k", score_kind="logit",
        ranked=True, device="none", data={"name": None, "digest": None, "note": None},
    )  # fmt: skip
    ids, zeros = np.arange(40, dtype=np.int32), np.zeros(40, np.int32)
    return Trace(
        header=header, experts_TLK=experts_TLK, sequence_T=ids, position_T=zeros, step_T=ids // 8,
        phase_T=np.zeros(40, np.int8), label_S=zeros,
        scores_TLK=np.take_along_axis(scores_TLE, experts_TLK.astype(int), axis=2),
    )  # fmt: skip


def toy_costs():
    rows = np.array([
        (layer, block, tokens, repetition, 1000 + 100 * tokens + 2 * repetition - 1)
        for layer in range(4) for block in (0, 1) for tokens in (1, 2, 4, 8, 16) for repetition in (0, 1)
        if layer < 3 or block == 0
    ])  # fmt: skip
    kinds = {"layer": np.int16, "block": np.int16, "tokens": np.int32, "repetition": np.int32, "service_ns": np.int64}
    columns = {name: rows[:, i].astype(kind) for i, (name, kind) in enumerate(kinds.items())}
    return CostTable(columns, {"device": "a toy"})


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """A folder with a trace and a cost table."""
    folder = tmp_path_factory.mktemp("logs")
    save_trace(toy_trace(), folder / "toy.trace.parquet")
    toy_costs().save(folder / "costs.parquet")
    return folder


def test_a_grid_is_written_and_what_is_complete_is_kept(simulate, logs, tmp_path):
    grid = (
        "run", logs / "toy.trace.parquet", "--costs", logs / "costs.parquet", "--queue-size", "1,4",
        "--arrivals", "poisson", "--load", "0.5", "--replications", "2", "--out", tmp_path, "--jobs", "2",
    )  # fmt: skip
    status, out, _ = simulate(*grid)
    assert status == 0
    assert "4 of 4 runs" in out
    names = run_names(tmp_path)
    assert names == [f"queues-B00{size}-poisson0.50-s{seed}" for size in (1, 4) for seed in (0, 1)]
    header = load_run(tmp_path, names[2]).header
    assert (header["source"], header["device"]) == ("simulated", "a toy")
    assert header["trace_digest"] == load_trace(logs / "toy.trace.parquet").digest
    assert header["config"]["rate_per_s"] == pytest.approx(0.5 * toy_costs().capacity_per_s(k=2, layers=3, batch=4))
    assert header["provenance"]["command"].startswith("python -m simulate run")
    assert str(tmp_path) not in header["provenance"]["command"]

    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    (tmp_path / f"{names[1]}.batches.parquet").unlink()
    status, out, _ = simulate(*grid)
    assert status == 0
    assert "3 of 4 runs are complete already" in out
    written = {path.name.split(".p")[0].split(".b")[0] for path in stamps if path.stat().st_mtime_ns != stamps[path]}
    assert written == {names[1]}


def test_another_cost_law_does_not_count_as_complete(simulate, logs, tmp_path):
    """Its runs are refused, and what is there is neither lost nor taken for them, unless that is asked for."""

    def run(law, *more):
        return simulate("run", logs / "toy.trace.parquet", "--affine", law, "--out", tmp_path, "--jobs", "1", *more)

    assert run("100,10")[0] == 0
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    status, _, errors = run("100,20")
    assert (status, errors.count("\n")) == (2, 1)
    assert "holds a run of another cost table; allowed: --force to replace it, or another place" in errors
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    status, out, _ = run("100,20", "--force")
    assert (status, "complete already" in out) == (0, False)
    assert "complete already" in run("100,20")[1]


def test_executed_configurations_are_repeated_under_their_names(simulate, logs, tmp_path):
    trace, executed = load_trace(logs / "toy.trace.parquet"), tmp_path / "executed"
    configs = {
        "closed-a": RunConfig(queue_size=4, arrivals="closed", in_flight=8, k=3, sequences=60, seed=0),
        "closed-b": RunConfig(scheduler="lockstep", max_step=16, arrivals="steps"),
        "other": RunConfig(),
    }
    for name, config in configs.items():
        execute_as_simulated(trace, config).save(executed, name)
    words = ("like", executed, logs / "toy.trace.parquet", "--costs", logs / "costs.parquet", "--jobs", "1")
    status, _, _ = simulate(*words, "--only", "closed*", "--out", tmp_path / "like")
    assert status == 0
    assert run_names(tmp_path / "like") == ["closed-a", "closed-b"]
    for name in ("closed-a", "closed-b"):
        one, other = load_run(executed, name), load_run(tmp_path / "like", name)
        assert other.header["config"] == one.header["config"]
        assert other.batches["members_crc"].tolist() == one.batches["members_crc"].tolist()


def test_folders_of_executed_runs_are_repeated_each_on_its_own_trace(simulate, logs, tmp_path):
    traces, executed = tmp_path / "rules", tmp_path / "serving"
    traces.mkdir()
    for name, seed in (("k2", 1), ("delta", 2)):
        save_trace(toy_trace(seed), traces / f"{name}.trace.parquet")
        execute_as_simulated(toy_trace(seed), RunConfig()).save(executed / name, "run")
    words = ("like", executed, traces, "--costs", logs / "costs.parquet", "--jobs", "1", "--out", tmp_path / "out")
    status, _, _ = simulate(*words)
    assert status == 0
    for name in ("k2", "delta"):
        one, other = load_run(executed / name, "run"), load_run(tmp_path / "out" / name, "run")
        assert other.header["trace_digest"] == one.header["trace_digest"]
    (traces / "k2.trace.parquet").unlink()
    status, _, err = simulate(*words)
    assert (status, err.count("\n")) == (2, 1)
    assert "k2.trace.parquet" in err
    status, _, err = simulate(
        "like", executed / "k2", traces, "--costs", logs / "costs.parquet", "--out", tmp_path / "no"
    )
    assert status == 2
    assert "holds no folders of executed runs" in err


def execute_as_simulated(trace, config):
    """Return records that say they were executed, made by the engine with another cost law."""
    runs = Runs(choices_only(trace), trace.digest, CostModel(line_ns=(500, 50)), Path(), {})
    found = runs.simulate(config)
    header = run_header("executed", config, "a toy", trace.digest, None, {})
    return RunRecords(found.passes, found.batches, header)


def test_an_execution_of_another_trace_is_refused(simulate, logs, tmp_path):
    execute_as_simulated(toy_trace(seed=1), RunConfig()).save(tmp_path / "executed", "run")
    status, _, err = simulate(
        "like", tmp_path / "executed", logs / "toy.trace.parquet", "--affine", "1,1", "--out", tmp_path / "like"
    )
    assert status == 2
    assert err.count("\n") == 1
    assert "allowed: the trace that was executed" in err


def test_a_run_that_fails_is_named_and_the_others_are_written(simulate, logs, tmp_path):
    status, out, err = simulate(
        "run", logs / "toy.trace.parquet", "--costs", logs / "costs.parquet", "--queue-size", "4,32", "--out", tmp_path,
        "--jobs", "1",
    )  # fmt: skip
    assert status == 2
    assert "1 of 2 runs in" in out
    assert "queues-B032-all-s0: failed: costs: a batch of 32 tokens in dense block 0 was not measured" in err
    assert run_names(tmp_path) == ["queues-B004-all-s0"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--affine", "1,1", "--arrivals", "fast"],
            "unknown arrivals 'fast'; known: all, closed, poisson, recorded",
        ),
        (["--affine", "1,1", "--scheduler", "x"], "unknown scheduler 'x'; known: lockstep, queues"),
        (["--affine", "1,1", "--arrivals", "closed"], "needs --in-flight"),
        (["--affine", "1,1", "--queue-size", "0"], "--queue-size: 0 is not allowed; allowed: numbers >= 1"),
        (["--affine", "1"], "--affine: '1' is not allowed; allowed: two numbers A,B in ns"),
        (["--affine", "1,1", "--devices", "7"], "at most one for each of the 6 experts"),
        (["--affine", "1,1", "--k", "9"], "k is 9"),
        ([], "exactly one of them"),
        (["--costs", "nothing.parquet"], "no such file"),
    ],
)
def test_bad_options_get_one_line_that_names_what_is_allowed(simulate, logs, tmp_path, options, message):
    status, _, err = simulate("run", logs / "toy.trace.parquet", *options, "--out", tmp_path, "--jobs", "1")
    assert status == 2
    assert message in err


def test_it_is_a_command_of_its_own_that_never_shows_a_traceback(logs, tmp_path):
    words = [sys.executable, "-m", "simulate", "run", logs / "toy.trace.parquet", "--affine", "1", "--out", tmp_path]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "simulate: --affine: '1' is not allowed; allowed: two numbers A,B in ns\n"


def test_help_shows_an_example(simulate):
    for name in ("run", "like"):
        status, out, _ = simulate(name, "--help")
        assert status == 0
        assert f"python -m simulate {name}" in " ".join(out.split())
