"""What `moe_replay` offers to Python programs: the results of the commands, as objects."""

import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer

import moe_replay
from moe_replay.traces.file.mixed_table import load_mixed
from moe_replay.traces.runs.run_records import load_run
from moe_replay.traces.training_graphs.graph_file import save_graph
from moe_replay.traces.training_graphs.training_graph import PHASES, training_graph

ROOT = Path(__file__).resolve().parents[1]
COSTS, AFFINE = (200e-6, 20e-6), "200000,20000"
HEAVY = ("dask", "matplotlib", "numba", "numpy", "pandas", "pyarrow", "scipy", "simpy", "torch", "transformers")


def command(*words, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "moe_replay.simulate", *map(str, words)],
        cwd=cwd, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def said_by(code, cwd):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def toy():
    return moe_replay.synthetic(layers=2, experts=8, k=2, sequences=24, prompt=(4, 8), decode=6, seed=1)


@pytest.fixture
def toy_path(toy, tmp_path):
    moe_replay.save_trace(toy, tmp_path / "toy.trace.parquet")
    return tmp_path / "toy.trace.parquet"


def assert_same_records(run, folder, name):
    saved = load_run(folder, name)
    for table in ("passes", "batches", "transfers"):
        ours, theirs = getattr(run.records, table), getattr(saved, table)
        assert (ours is None) == (theirs is None)
        for column in theirs or {}:
            np.testing.assert_array_equal(ours[column], theirs[column])
    for key in ("config", "trace_digest", "costs_digest", "engine"):
        assert run.records.header[key] == saved.header[key]


def test_importing_imports_nothing_heavy(tmp_path):
    code = f"import sys, moe_replay; dir(moe_replay); print(sorted({{*{HEAVY!r}}} & {{*sys.modules}}))"
    assert said_by(code, tmp_path) == "[]"


def test_a_backend_of_matplotlib_stays_what_it_was(tmp_path):
    code = (
        "import sys, moe_replay\n"
        "trace = moe_replay.synthetic(sequences=8)\n"
        "moe_replay.replay(trace, (1e-4, 1e-5), engine='simpy').summary()\n"
        "moe_replay.count_misses(trace, slots=2, mode='group', cache='fifo').to_pandas()\n"
        "print(sorted({'matplotlib', 'torch', 'dask', 'transformers'} & {*sys.modules}))"
    )
    assert said_by(code, tmp_path) == "[]"


def test_every_name_is_there_documented_and_an_unknown_one_is_not():
    for name in moe_replay.__all__:
        assert getattr(moe_replay, name).__doc__
        assert name in dir(moe_replay)
    assert sorted(name for names in moe_replay.HOMES.values() for name in names) == sorted(moe_replay.__all__)
    with pytest.raises(AttributeError, match="no attribute 'repaly'"):
        moe_replay.repaly  # noqa: B018


def test_settings_are_the_axes_of_a_sweep_with_times_in_seconds():
    from moe_replay.simulate.interface.arguments import TIMES
    from moe_replay.simulate.sweeps.axes import FIELDS

    assert {TIMES.get(name, name) for name in moe_replay.Settings.__annotations__} == set(FIELDS)


def test_arguments_have_the_names_of_options():
    """What an option takes with a unit says its SI unit in Python; `trace` and `profiles` are no options."""
    from moe_replay.simulate.__main__ import app

    commands = typer.main.get_command(app).commands
    units = {"memory_bytes": "memory", "pass_latency_s": "pass_latency"}
    for function, command in (("count_misses", "misses"), ("plan", "plan")):
        options = {parameter.name for parameter in commands[command].params}
        arguments = {*inspect.signature(getattr(moe_replay, function)).parameters} - {"trace", "profiles"}
        assert {units.get(name, name) for name in arguments} == options - {"trace_path", "profiles", "out", "force"}


def test_a_run_is_that_of_the_command(toy, toy_path):
    command("run", toy_path, "--affine", AFFINE, "--queue-size", 4, "--timeout", "500us", "--arrivals", "closed",
            "--in-flight", 6, "--out", "runs", cwd=toy_path.parent)  # fmt: skip
    run = moe_replay.replay(toy, COSTS, queue_size=4, timeout_s=500e-6, arrivals="closed", in_flight=6)
    assert_same_records(run, toy_path.parent / "runs", run.name)
    assert repr(run).startswith(f"Run({run.name}: ")
    assert len(repr(run)) < 120
    assert f"{run.statistics.values['latency_p95_ms']:.4g} ms" in run.summary()
    assert len(run.to_pandas()) == len(toy.passes)
    assert list(run.to_pandas("batches")["block"]) == run.records.batches["block"].tolist()
    with pytest.raises(moe_replay.InputError, match="all experts were resident"):
        run.to_pandas("transfers")


def test_a_load_is_a_share_of_the_same_capacity(toy, toy_path):
    command("run", toy_path, "--affine", AFFINE, "--queue-size", 4, "--arrivals", "poisson", "--load", 0.5,
            "--out", "runs", cwd=toy_path.parent)  # fmt: skip
    run = moe_replay.replay(toy_path, COSTS, queue_size=4, load=0.5)
    assert_same_records(run, toy_path.parent / "runs", "queues-B004-poisson0.50-s0")


def test_an_expert_memory_that_learns_is_that_of_the_command(toy, toy_path):
    command("memory", toy_path, "--affine", AFFINE, "--cache", "static", "--slots", 3, "--filled", "--expert-bytes",
            1000000, "--bandwidth", 1, "--latency", "10us", "--no-explain", "--out", "memory",
            cwd=toy_path.parent)  # fmt: skip
    run = moe_replay.replay(
        toy, COSTS, scheduler="lockstep", arrivals="closed", in_flight=1, seed=None, cache="static", slots=3,
        filled=True, expert_bytes=1000000, link_bytes_per_s=1e9, link_latency_s=10e-6,
    )  # fmt: skip
    assert_same_records(run, toy_path.parent / "memory", run.name)
    assert "held-out: learned on the first 12 of 24 sequences" in run.summary()
    assert len(run.to_pandas("transfers")) == run.records.header["memory"]["misses"]
    again = moe_replay.replay(toy, COSTS, cache="static", slots=3, filled=True, expert_bytes=1, known=toy)
    assert "known: hindsight: known is the very trace" in again.summary()


def test_misses_are_those_of_the_command(toy, toy_path):
    command("misses", toy_path, "--cache", "lru,belady,static", "--slots", "2,4", "--out", "misses.csv",
            cwd=toy_path.parent)  # fmt: skip
    found = moe_replay.count_misses(toy, cache=["lru", "belady", "static"], slots=[2, 4])
    written = pd.read_csv(toy_path.parent / "misses.csv", keep_default_na=False, na_values={"miss_ratio": [""]})
    ours = found.to_pandas(per_layer=True).astype({"layer": str})
    pd.testing.assert_frame_equal(ours, written, check_dtype=False)
    whole = found.to_pandas()
    assert len(whole) == 6
    assert whole.pivot(index="slots", columns="policy", values="miss_ratio").shape == (2, 3)
    assert repr(found) == f"MissCounts({len(found.rows)} rows)"
    assert "held-out" in found.summary()
    assert len(moe_replay.count_misses(toy, cache="fifo").to_pandas()) == 8  # every number of slots


def test_a_sweep_is_that_of_the_command(toy, toy_path):
    axes = ["--axis", "queue_size=2,4", "--axis", "load=0.3,0.6", "--axis", "timeout_ns=none,500000"]
    command("sweep", toy_path, "--affine", AFFINE, *axes, "--replications", 2, "--out", "t.parquet",
            cwd=toy_path.parent)  # fmt: skip
    found = moe_replay.sweep(
        toy, COSTS, queue_size=[2, 4], load=[0.3, 0.6], timeout_s=[None, 500e-6], replications=2, jobs=1
    )
    table, written = found.to_pandas(), load_mixed(toy_path.parent / "t.parquet", "sweep")[0].to_pandas()
    assert len(table) == 16
    shared = [name for name in written.columns if name in table.columns]
    assert {"run", "queue_size", "timeout_ns", "status", "throughput_per_s", "latency_p95_ms"} <= {*shared}
    ours, theirs = (each[shared].astype(object).where(each[shared].notna(), None) for each in (table, written))
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)
    assert repr(found) == f"SweepResult(16 points: {found.statuses()})"


def test_a_sweep_keeps_its_table_and_its_failed_points(toy, tmp_path):
    out = tmp_path / "kept.parquet"
    found = moe_replay.sweep(toy, COSTS, cache=["resident", "lru"], slots=[1, 99], expert_bytes=1000, jobs=1, out=out)
    assert out.exists()
    table = found.to_pandas()
    assert table["status"].tolist().count("failed") == 1
    assert "C99" in found.summary()
    assert "failed:" in found.summary()


PROFILE = """slots,period,loss,loss_error,latency_ms,memory_bytes,experts,k
4.4,0,0.00,0.01,3.0,8000000,4,2
3.4,0,0.05,0.01,2.9,7000000,4,2
4.3,0,0.03,0.01,2.9,7000000,4,2
2.4,0,0.12,0.01,2.8,6000000,4,2
4.2,0,0.08,0.01,2.8,6000000,4,2
3.3,0,0.09,0.01,2.7,6000000,4,2
2.2,0,0.25,0.01,2.5,4000000,4,2
1.1,0,0.60,0.01,2.0,2000000,4,2
1.4,0,0.30,0.01,2.5,5000000,4,2
4.1,0,0.22,0.01,2.5,5000000,4,2
"""


def test_placements_are_those_of_the_command(tmp_path):
    trace = moe_replay.synthetic(layers=2, experts=8, k=2, sequences=40, prompt=(6, 10), decode=(4, 8), seed=0)
    moe_replay.save_trace(trace, tmp_path / "toy.trace.parquet")
    command("place", "toy.trace.parquet", "--method", "contiguous,eplb,bound", "--devices", 4, "--redundant", "0,4",
            "--split", "even,nearest", "--batch", 64, "--repair", "--out", "o", cwd=tmp_path)  # fmt: skip
    found = moe_replay.place(
        trace, method=["contiguous", "eplb", "bound"], devices=4, redundant=[0, 4], split=["even", "nearest"], batch=64,
        repair=True,
    )  # fmt: skip
    written = pd.read_csv(tmp_path / "o" / "placements.csv", keep_default_na=False, na_values=[""])
    mine = found.to_pandas().replace({"split": {"": None}})
    pd.testing.assert_frame_equal(mine.astype(object).where(mine.notna(), None), written.astype(object).where(
        written.notna(), None), check_dtype=False)  # fmt: skip
    assert "known: held-out" in found.summary()
    found.save(tmp_path / "mine.json", "eplb", 4)
    with pytest.raises(moe_replay.InputError, match="is there already"):
        found.save(tmp_path / "mine.json", "eplb", 4)
    with pytest.raises(moe_replay.InputError, match="no placement by 'lpt' with 0 redundant experts; known"):
        found.save(tmp_path / "x.json", "lpt")
    assert moe_replay.place(trace, fit=trace, method="lpt", batch=64).rows[0]["known"] == "hindsight"


def test_plans_are_those_of_the_command(tmp_path):
    (tmp_path / "profile.csv").write_text(PROFILE)
    command("plan", "profile.csv", "--memory", "6e6,7e6", "--pass-latency", 2.95, "--out", "plans.csv",
            cwd=tmp_path)  # fmt: skip
    found = moe_replay.plan(tmp_path / "profile.csv", memory_bytes=[6e6, 7e6], pass_latency_s=2.95e-3)
    written = pd.read_csv(tmp_path / "plans.csv", dtype={"slots": str}).drop(columns="seconds")
    pd.testing.assert_frame_equal(found.to_pandas().drop(columns="seconds"), written, check_dtype=False)
    assert "exact" in found.summary()
    partly = moe_replay.plan(tmp_path / "profile.csv", memory_bytes=[10, 7e6])
    assert "no plan meets the budget" in partly.summary()
    with pytest.raises(moe_replay.InputError, match="no plan meets the budget"):
        moe_replay.plan(tmp_path / "profile.csv", memory_bytes=10)


def test_arrays_become_the_trace_that_the_importer_makes(tmp_path):
    rng = np.random.default_rng(0)
    experts_TLK = rng.random((600, 3, 16)).argsort(-1)[:, :, :2]
    scores_TLK = np.sort(rng.random((600, 3, 2)), axis=-1)[:, :, ::-1]
    arrays = {"experts": experts_TLK, "offsets": [0, 200, 600], "prompt_len": [150, 400], "scores": scores_TLK}
    np.savez(tmp_path / "mine.npz", **arrays)
    words = ["npz", "mine.npz", "--experts", "16", "--phase", "both", "--ranked", "--score-kind", "sigmoid"]
    done = subprocess.run(
        [sys.executable, "-m", "moe_replay.traces", "import", *words, "--out", "mine.trace.parquet"],
        cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = experts_TLK.copy()
    trace = moe_replay.trace_from_arrays(
        experts_TLK, [0, 200, 600], experts=16, phase="both", prompt_len=[150, 400], ranked=True,
        scores_TLK=scores_TLK, score_kind="sigmoid",
    )  # fmt: skip
    assert trace.digest == moe_replay.load_trace(tmp_path / "mine.trace.parquet").digest
    experts_TLK[:] = 0  # the trace has its own
    assert (trace.experts_TLK == kept).all()
    assert repr(trace) == "Trace(unknown: 600 tokens, 3 layers, 16 experts, 2 selected)"


ROWS = np.array([[[0, 1]], [[2, 3]]])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"phase": "decoding"}, "phase is 'decoding', allowed prefill, decode, both"),
        ({"phase": "both"}, "phase 'both' needs prompt_len"),
        ({"offsets": [0, 1]}, "offsets run from 0 to 1, allowed 0 to 2"),
        ({"experts": 3}, "row 1, layer 0, slot 1: expert is 3, allowed -1..2"),
        ({"experts_TLK": ROWS * 1.0}, "experts are float64, allowed whole numbers"),
        ({"experts_TLK": ROWS[0]}, "shape (1, 2)"),
        ({"scores_TLK": ROWS * 0.1}, "score_kind is None, allowed with scores_TLK"),
        ({"score_kind": "softmax"}, "score_kind is 'softmax', allowed with scores_TLK"),
        ({"layer_ids": [0, 1]}, "allowed whole numbers of shape (1,)"),
        ({"experts": "4"}, "experts is '4'"),
        ({"k": 5}, "5 experts per token, allowed 1..4"),
    ],
)
def test_arrays_that_cannot_be_are_refused(arguments, says):
    given = {"experts_TLK": ROWS, "offsets": [0, 2], "experts": 4, "phase": "prefill"} | arguments
    with pytest.raises(moe_replay.InputError) as refused:
        moe_replay.trace_from_arrays(**given)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"queue": 3}, "unknown setting 'queue'; known: arrivals"),
        ({"queue_size": "8"}, "queue_size is '8', allowed: int"),
        ({"queue_size": 0}, "queue_size is 0"),
        ({"arrivals": 3}, "arrivals is 3, allowed: str"),
        ({"timeout_s": "1ms"}, "timeout_s is '1ms', allowed: seconds >= 0"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"in_flight": 4, "arrivals": "all"}, "in_flight has no meaning under arrivals all"),
        ({"arrivals": "recorded", "sequences": 3}, "sequences has no meaning beside the other settings"),
        ({"load": 0.5, "rate_per_s": 3.0}, "allowed: one of them"),
        ({"cache": "lur", "expert_bytes": 1}, "unknown cache policy 'lur'"),
        ({"cache": "lru"}, "allowed: expert_bytes"),
        ({"cache": "lru", "slots": 99, "expert_bytes": 1}, "99"),
        ({"known": "nowhere.trace.parquet", "cache": "static", "expert_bytes": 1, "filled": True}, "nowhere"),
        ({"engine": "fast"}, "unknown engine 'fast'"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, says, toy):
    with pytest.raises(moe_replay.InputError) as refused:
        moe_replay.replay(toy, COSTS, **settings)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("costs", [(1e-4,), (1e-4, -1e-5), ("200us", "20us"), 3, None, (float("nan"), 0.0)])
def test_costs_that_are_none_are_refused(costs, toy):
    with pytest.raises(moe_replay.InputError, match="costs is"):
        moe_replay.replay(toy, costs)


def test_a_cost_table_is_asked_for_by_file_or_by_name(toy):
    with pytest.raises(
        moe_replay.InputError, match=r"no cost table of that name; known: .*\bnvidia-h200/mixtral-8x7b\b"
    ):
        moe_replay.replay(toy, "nvidia-h200/mixtral")
    with pytest.raises(moe_replay.InputError, match="no such file"):
        moe_replay.replay(toy, "nowhere.parquet")


def test_a_saved_run_is_not_replaced(toy, tmp_path):
    run = moe_replay.replay(toy, COSTS)
    run.save(tmp_path / "runs")
    assert_same_records(run, tmp_path / "runs", run.name)
    with pytest.raises(moe_replay.InputError, match="is there already"):
        run.save(tmp_path / "runs")


def test_orders_are_those_of_the_command(tmp_path):
    rows = [(f"op{v}", "x", PHASES[v % 4], 0) for v in range(8)]
    storages = [(v + 1, v, False, [v + 1, 7] if v < 6 else [7]) for v in range(7)]
    save_graph(training_graph("toy", rows, storages), tmp_path / "toy.graph.json")
    command("order", "toy.graph.json", "--seconds", 5, "--out", "order.json", cwd=tmp_path)
    told = json.loads((tmp_path / "order.json").read_text())
    found = moe_replay.order(tmp_path / "toy.graph.json", seconds=5)
    assert found.operations.tolist() == told["order"]
    assert (found.peak_bytes, found.bound_bytes) == (told["order_peak_bytes"], told["order_bound_bytes"])
    assert found.proved == told["proved"]
    assert "proved" in found.summary()
    with pytest.raises(moe_replay.InputError, match="unknown order policy 'bets'"):
        moe_replay.order(tmp_path / "toy.graph.json", policy="bets")
    with pytest.raises(moe_replay.InputError, match="seconds is 0, allowed: numbers > 0"):
        moe_replay.order(tmp_path / "toy.graph.json", seconds=0)
