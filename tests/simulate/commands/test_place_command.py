"""`simulate place`: its table, its files, what they lead to, and what it refuses."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from moe_replay.simulate.__main__ import app
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.new_traces import trace_from_arrays
from moe_replay.traces.placements.expert_placement import load_placement
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


@pytest.fixture
def place(tmp_path, monkeypatch, capsys):
    """Return a function (words) -> (status, printed, errors) of the command, in a folder with a trace and counts."""
    monkeypatch.chdir(tmp_path)
    spec = SyntheticSpec(layers=2, experts=8, k=2, sequences=40, prompt=(6, 10), decode=(4, 8), scores=False)
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, "toy.trace.parquet")
    save_loads("counts.loads.parquet", np.array([[[8, 4, 2, 2]], [[8, 4, 2, 2]]]))

    def call(*words):
        monkeypatch.setattr("sys.argv", ["simulate/__main__.py", "place", *words])
        status = status_of(app, "simulate", ["place", *words])
        return status, *capsys.readouterr()

    return call


def save_loads(path, load_SLE, **notes):
    model = ModelInfo(name="m", experts=load_SLE.shape[2], used_k=2, layer_ids=tuple(range(load_SLE.shape[1])))
    data, load_SRMLE = {"name": "d", "digest": None, "note": None}, load_SLE[:, None, None].astype(np.int64)
    LoadTrace(
        model=model, data=data, load_SRMLE=load_SRMLE,
        iteration_S=np.arange(len(load_SLE)), rank_R=np.zeros(1, np.int32), notes=notes,
    ).save(path)  # fmt: skip


def rows_of(path):
    with open(path) as opened:
        return list(csv.DictReader(opened))


def test_the_table_by_hand(place):
    """Loads 8, 4, 2, 2 on two devices: 12 and 4 in order; 8 and 8 alternately no: 10 and 6; 10 and 6 longest first."""
    status, printed, _ = place(
        "counts.loads.parquet", "--devices", "2", "--method", "contiguous,round-robin,lpt,exact,bound", "--out", "o"
    )
    assert status == 0
    found = {row["planner"]: row for row in rows_of("o/placements.csv")}
    assert {name: float(row["device_max_over_mean"]) for name, row in found.items()} == {
        "contiguous": 1.5, "round-robin": 1.25, "lpt": 1.25, "exact": 1.25, "bound": 1.25,
    }  # fmt: skip
    assert found["lpt"]["known"] == "held-out"
    assert found["contiguous"]["known"] == "none"
    assert found["bound"]["known"] == "hindsight"
    assert float(found["lpt"]["max_load"]) == 10 / 16
    assert found["lpt"]["fan_out"] == ""
    assert "known: held-out: fitted on the first 1, scored on the last 1 of 2 batches" in printed
    assert all(len(line) <= 80 for line in printed.splitlines() if not line.startswith("known"))


def test_replicas_splits_and_files(place, tmp_path):
    status, printed, _ = place(
        "toy.trace.parquet", "--devices", "4", "--nodes", "2", "--method", "lpt,eplb,balanced", "--redundant", "0,4",
        "--split", "even,best,round-robin,nearest", "--batch", "64", "--expert-bytes", "1MB", "--repair", "--out", "o",
    )  # fmt: skip
    assert status == 0
    rows = rows_of(tmp_path / "o" / "placements.csv")
    four = ("even", "best", "round-robin", "nearest")
    assert [(row["planner"], row["redundant"], row["split"]) for row in rows] == [
        ("lpt", "0", ""), ("eplb", "0", ""), *[("eplb", "4", each) for each in four],
        ("balanced", "0", ""), *[("balanced", "4", each) for each in four],
    ]  # fmt: skip
    eplb = {row["split"]: row for row in rows if (row["planner"], row["redundant"]) == ("eplb", "4")}
    assert float(eplb["best"]["device_max_over_mean"]) <= float(eplb["even"]["device_max_over_mean"])
    assert float(eplb["nearest"]["device_copies"]) < float(eplb["round-robin"]["device_copies"])
    assert eplb["even"]["device_copies"] == ""
    assert eplb["even"]["placement_bytes"] == str(12 * 2 * 10**6)
    made = load_placement("o/eplb-r4.placement.json")
    assert (made.devices, made.nodes, made.expert_LP.shape) == (4, 2, (2, 12))
    about = json.loads((tmp_path / "o" / "eplb-r4.placement.json").read_text())["provenance"]
    assert (about["planner"], about["known"].split(":")[1].strip()) == ("eplb", "held-out")
    assert "home of a token: its sequence % devices" in printed
    assert place("toy.trace.parquet", "--devices", "4", "--method", "lpt", "--batch", "64", "--out", "o")[0] == 2


def test_a_placement_runs(place, tmp_path, monkeypatch, capsys):
    words = ("toy.trace.parquet", "--devices", "4", "--method", "lpt", "--batch", "64", "--out", "o")
    assert place(*words)[0] == 0
    run = ["run", "toy.trace.parquet", "--affine", "100,10", "--devices", "4", "--jobs", "1", "--replications", "0"]
    for placement, out in (("o/lpt-r0.placement.json", "r1"), ("contiguous", "r2")):
        assert status_of(app, "simulate", [*run, "--placement", placement, "--out", out]) == 0
    capsys.readouterr()
    names = {path.name.split(".batches")[0] for path in (tmp_path / "r1").glob("*.batches.parquet")}
    assert all("D4placement=file_lpt_r0_" in name for name in names)
    assert status_of(app, "simulate", [*run[:5], "2", "--placement", "o/lpt-r0.placement.json", "--out", "r3"]) == 2
    assert "a placement of 4 devices, allowed 2 as in the run" in capsys.readouterr().err


@pytest.mark.parametrize(("fit", "known"), [
    ("first-half", "held-out"), ("first-sequences", "held-out"), ("scored", "hindsight"), ("trace", "hindsight"),
    ("toy.trace.parquet", "hindsight"), ("other.trace.parquet", "held-out"),
])  # fmt: skip
def test_what_was_known_is_marked(place, fit, known):
    spec = SyntheticSpec(layers=2, experts=8, k=2, sequences=40, prompt=(6, 10), decode=(4, 8), scores=False)
    save_trace(synthetic_trace(spec, np.random.default_rng(5)).trace, "other.trace.parquet")
    status, printed, _ = place(
        "toy.trace.parquet", "--method", "lpt,contiguous", "--fit", fit, "--batch", "64", "--out", "o"
    )
    assert status == 0
    assert [row["known"] for row in rows_of("o/placements.csv")] == [known, "none"]
    assert f"known: {known}" in printed


def test_a_wrong_profile_costs(place):
    """Domain a selects experts 0 and 1 most, b 2 and 3: what balances one puts the other's on one device."""
    a, b = [60, 60, 1, 1, 20, 20, 20, 20], [20, 20, 60, 60, 1, 1, 20, 20]
    save_loads("domains.loads.parquet", np.array([[a], [b]]), domains=["a", "b"])
    status, printed, _ = place(
        "domains.loads.parquet", "--devices", "4", "--method", "lpt", "--fit", "trace", "--out", "o"
    )
    assert status == 0
    assert "fitted on one domain, scored on it (hindsight) and on others" in printed
    found = {
        (row["fitted_on"], row["scored_on"]): float(row["device_max_over_mean"]) for row in rows_of("o/domains.csv")
    }
    assert found["a", "a"] < found["a", "b"]
    assert found["b", "b"] < found["b", "a"]
    assert len(found) == 4


def test_domains_of_sequences(place):
    experts_TLK = np.array([[[0, 1]], [[0, 1]], [[2, 3]], [[2, 3]]] * 4, np.int16)
    trace = trace_from_arrays(experts_TLK, offsets=np.arange(0, 17, 2), experts=4, phase="prefill")
    save_trace(replace(trace, domain_S=np.array(["x", "y"] * 4)), "two.trace.parquet")
    status, printed, _ = place("two.trace.parquet", "--devices", "2", "--method", "co-activation=1", "--batch", "4")
    assert status == 0
    assert "co-activation=1 x 2.000 2.000 y" in " ".join(printed.split())


@pytest.mark.parametrize(("words", "said"), [
    (("toy.trace.parquet", "--method", "lptt"), "unknown planner 'lptt'"),
    (("toy.trace.parquet", "--split", "odd"), "unknown split 'odd'"),
    (("toy.trace.parquet", "--devices", "16"), "devices is 16, allowed: at most one for each of the 8"),
    (("toy.trace.parquet", "--devices", "4", "--nodes", "3"), "4 devices in 3 nodes"),
    (("toy.trace.parquet", "--batch", "100000"), "allowed: at least one batch of 100000"),
    (("toy.trace.parquet", "--batch", "400"), "one batch has no halves"),
    (("toy.trace.parquet", "--fit", "no.parquet"), "no.parquet: no such file"),
    (("toy.trace.parquet", "--fit", "counts.loads.parquet"), "4 experts in layers [0], allowed 8 in [0, 1]"),
    (("counts.loads.parquet", "--devices", "2", "--split", "nearest"), "counts tell no homes"),
    (("counts.loads.parquet", "--devices", "2", "--fit", "first-sequences"), "counts without sequences"),
    (("counts.loads.parquet", "--devices", "2", "--method", "co-activation"), "counts do not tell which experts"),
    (("counts.loads.parquet", "--devices", "2", "--redundant", "x"), "--redundant"),
])  # fmt: skip
def test_what_cannot_be_is_one_line(place, words, said):
    status, _, errors = place(*words)
    assert status == 2
    assert said in errors
    assert len(errors.strip().splitlines()) == 1
