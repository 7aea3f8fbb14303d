"""`simulate rebalance` from the command line: its tables, prefill and decode apart, and what it refuses."""

import csv

import numpy as np
import pytest
from typer.testing import CliRunner

from moe_replay.simulate.__main__ import app
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.glossary.lookup import find
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


@pytest.fixture(scope="module")
def loads(tmp_path_factory):
    """Four iterations, two layers, four experts of 1 MB: the toy of four experts on two devices, twice."""
    path = tmp_path_factory.mktemp("loads") / "toy.loads.parquet"
    load_SE = np.array([[4, 4, 1, 1], [4, 4, 1, 1], [1, 4, 1, 4], [1, 4, 1, 4]])
    LoadTrace(
        model=ModelInfo(name="toy", experts=4, used_k=1, layer_ids=(1, 3), expert_bytes=1_000_000),
        data={"name": None, "digest": None, "note": None},
        load_SRMLE=np.repeat(load_SE[:, None, None, None], 2, axis=3), iteration_S=np.array([10, 20, 30, 40]),
        rank_R=np.zeros(1, np.int32),
    ).save(path)  # fmt: skip
    return path


def run(*words):
    return CliRunner().invoke(app, ["rebalance", *map(str, words)], catch_exceptions=True)


def rows_of(path):
    return list(csv.DictReader(path.open()))


def test_tables_of_the_toy(loads, tmp_path):
    out = tmp_path / "over.csv"
    words = ("--devices", 2, "--interval", "1,2", "--bandwidth", "1GB/s", "--step-time", "1ms", "--hidden-steps", 1)
    done = run(loads, *words, "--move-cost", "0,0.1", "--points", "--out", out)
    assert done.exit_code == 0, done.output
    rows = rows_of(out)
    assert [row["placement"] for row in rows] == ["contiguous", "first", "all", "same", "bound"] + ["rebalanced"] * 2
    assert [row["known"] for row in rows] == ["none", "none", "hindsight", "hindsight", "hindsight", "none", "none"]
    every = rows[5]
    assert float(every["device_max_over_mean"]) == pytest.approx(1.3)
    assert (every["adoptions_per_layer"], every["copies_per_layer"], every["rebalances"]) == ("2.0", "4.0", "2")
    assert float(every["bytes_per_rebalance"]) == 4e6  # two layers, two experts each
    assert float(every["stall_ms"]) == pytest.approx(2)  # one of each layer through the fullest port, layer by layer
    assert float(every["stall_hidden_ms"]) == pytest.approx(1)
    regret = rows_of(tmp_path / "over_regret.csv")
    # For nothing it follows the loads (1.6 at no point); for 0.1 a copy it does so too: 2 copies pay off at once.
    assert [float(row["clairvoyant_cost_per_point"]) for row in regret] == pytest.approx([1.0] * 2 + [1.1] * 2)
    assert float(regret[0]["regret"]) == pytest.approx(0.3)
    points = rows_of(tmp_path / "over_points.csv")
    assert len(points) == 2 * 4 * 2
    assert [row["iteration"] for row in points[:8:2]] == ["10", "20", "30", "40"]
    assert {row["layer"] for row in points} == {"1", "3"}
    for table in (rows, regret, points):
        for name in table[0]:
            find(name)  # every column has a meaning
    first = out.read_bytes()
    again = run(loads, *words, "--move-cost", "0,0.1", "--points", "--out", out)
    assert (again.exit_code, out.read_bytes()) == (0, first)


def test_prefill_and_decode_apart(tmp_path):
    spec = SyntheticSpec(layers=2, experts=8, k=2, sequences=30, prompt=(8, 24), decode=(4, 12))
    path = tmp_path / "toy.trace.parquet"
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, path)
    words = ("--devices", 4, "--batch", 32, "--method", "lpt,eplb,co-activation", "--interval", 2)
    done = run(path, *words, "--out", tmp_path / "over.csv")
    assert done.exit_code == 0, done.output
    rows = [row for row in rows_of(tmp_path / "over.csv") if row["placement"] == "rebalanced"]
    assert [row["phase"] for row in rows] == ["all"] * 3 + ["prefill"] * 3 + ["decode"] * 3
    points = {row["phase"]: int(row["points"]) for row in rows}
    assert points["prefill"] + points["decode"] <= points["all"] <= points["prefill"] + points["decode"] + 1
    assert "phase" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--method", "lpd"), "unknown planner 'lpd'; known: anti-correlation"),
        (("--interval", "-1"), "--interval"),
        (("--window", "0"), "--window"),
        (("--start", "now"), "unknown start 'now'; known: contiguous, first-point"),
        (("--devices", "5"), "devices is 5, allowed: at most one for each of the 4 slots"),
        (("--hidden-steps", "2"), "--hidden-steps: their length is not known"),
        (("--points",), "--points: has no place to write to"),
        (("--out", "over.txt"), "allowed: a name that ends in .csv"),
        (("--redundant", "5", "--devices", "2", "--method", "eplb"), "5 redundant experts on 2 devices"),
    ],
)
def test_bad_input_is_one_line(loads, words, said):
    done = run(loads, "--devices", 2, *words)
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)


def test_something_else_is_no_trace(tmp_path):
    (tmp_path / "x.parquet").write_text("nothing")
    done = run(tmp_path / "x.parquet")
    assert isinstance(done.exception, InputError)


LINKS = ("--links", "h800-ndr", "--dispatch-bytes", 64, "--combine-bytes", 64)
COSTS = ("--affine", "2000,100", "--engine", "simpy")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    """A trace of 160 tokens, two layers, eight experts."""
    path = tmp_path_factory.mktemp("tokens") / "toy.trace.parquet"
    spec = SyntheticSpec(layers=2, experts=8, k=2, sequences=8, batch=4, prompt=(6, 6), decode=(14, 14))
    save_trace(synthetic_trace(spec, np.random.default_rng(0), {}).trace, path)
    return path


def test_links_put_points_on_the_clock(tokens, tmp_path):
    words = (tokens, "--devices", 4, "--nodes", 2, "--batch", 16, "--interval", "2", "--expert-bytes", "1MB")
    bare, timed = tmp_path / "bare.csv", tmp_path / "timed.csv"
    assert run(*words, "--out", bare).exit_code == 0
    done = run(*words, *LINKS, *COSTS, "--out", timed)
    assert done.exit_code == 0, done.output
    assert "stalled" in done.output
    new = ("moves", "clock_ms", "moved_bytes", "moves_stall_ms")
    before, after = rows_of(bare), rows_of(timed)
    kept = [
        {name: row[name] for name in row if name not in new} for row in after if row["moves"] in ("", "synchronous")
    ]
    assert kept == before
    rules = {row["moves"]: row for row in after if row["placement"] == "rebalanced" and row["phase"] == "all"}
    synchronous, hidden = rules["synchronous"], rules["hidden"]
    assert float(synchronous["moved_bytes"]) == pytest.approx(
        float(synchronous["bytes_per_rebalance"]) * int(synchronous["rebalances"])
    )
    assert 0 < float(synchronous["moves_stall_ms"]) < float(synchronous["clock_ms"])
    assert float(hidden["clock_ms"]) < float(synchronous["clock_ms"])
    assert float(rules["background"]["moves_stall_ms"]) < float(hidden["moves_stall_ms"])
    only = run(*words, *LINKS, *COSTS, "--moves", "hidden", "--out", tmp_path / "hidden.csv")
    assert only.exit_code == 0, only.output
    assert {row["moves"] for row in rows_of(tmp_path / "hidden.csv")} == {"", "hidden"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--affine", "1,1"), "--affine has no meaning without --links"),
        (("--moves", "hidden"), "--moves has no meaning without --links"),
        (("--micro-batches", 2), "--micro-batches has no meaning without --links"),
        ((*LINKS, *COSTS, "--moves", "later"), "unknown --moves 'later'"),
        ((*LINKS, *COSTS, "--micro-batches", "1,2"), "points are timed on one machine, allowed: no lists"),
        (LINKS, "costs come either from a measured table or from an affine law"),
        ((*LINKS, *COSTS), "does not tell the size of an expert; allowed: --expert-bytes"),
    ],
)
def test_a_clock_is_refused_in_one_line(tokens, words, said):
    done = run(tokens, "--devices", 4, "--batch", 16, *words)
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)


def test_counts_have_no_clock(loads):
    done = run(loads, "--devices", 2, *LINKS, *COSTS)
    assert "counts do not tell who shares a token; allowed with --links: a trace" in str(done.exception)
