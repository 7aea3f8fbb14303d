"""`python -m simulate open-loop`: both traces of a rule meet the same arrivals, and a wrong partner is refused."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulate.__main__ import app
from simulate.policies.config import RunConfig
from traces import command
from traces.header import Header, ModelInfo
from traces.k_rules import KRule
from traces.regating import OPEN_LOOP, regate
from traces.run_records import load_run, run_names
from traces.selections import Trace
from traces.trace_file import save_trace

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def simulate(capsys, monkeypatch):
    """Call the command in this process; return (exit status, stdout, stderr)."""

    def call(*words):
        monkeypatch.setattr(sys, "argv", [str(ROOT / "simulate" / "__main__.py"), *map(str, words)])
        with pytest.raises(SystemExit) as left:
            command.run(app, "simulate")
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err

    return call


def source_trace():
    """Eighty sequences of one token; two layers, six experts, all recorded with softmax scores, four of them used."""
    scores_TLE = np.random.default_rng(0).dirichlet(np.ones(6), (80, 2)).astype(np.float32)
    experts_TLK = np.argsort(-scores_TLE, axis=2)
    header = Header(
        model=ModelInfo(name="toy", experts=6, used_k=4, layer_ids=(0, 1)), gate_rule="top-k", score_kind="softmax",
        ranked=True, device="none", data={"name": None, "digest": None, "note": None},
    )  # fmt: skip
    ids, zeros = np.arange(80, dtype=np.int32), np.zeros(80, np.int32)
    return Trace(
        header=header, experts_TLK=experts_TLK.astype(np.int16), sequence_T=ids, position_T=zeros, step_T=ids // 8,
        phase_T=np.zeros(80, np.int8), scores_TLK=np.take_along_axis(scores_TLE, experts_TLK, axis=2),
    )  # fmt: skip


def recorded_trace(source, rule):
    """A run under the rule that lost the second expert of every other token in the last layer."""
    made = regate(source, rule)
    experts_TLK = made.experts_TLK.copy()
    experts_TLK[::2, 1, 1:] = -1
    notes = {name: value for name, value in made.header.notes.items() if name != OPEN_LOOP}
    header = replace(made.header, notes=notes, score_kind=None)
    return replace(made, header=header, experts_TLK=experts_TLK, scores_TLK=None)


@pytest.fixture
def folder(tmp_path):
    source = source_trace()
    save_trace(source, tmp_path / "wide.trace.parquet")
    save_trace(recorded_trace(source, KRule("delta", 0.4)), tmp_path / "rules" / "wide-delta-0.4.trace.parquet")
    save_trace(recorded_trace(source, KRule("gap", 0.1)), tmp_path / "rules" / "base-gap-0.1.trace.parquet")
    return tmp_path


def words(folder):
    places = (folder / "wide.trace.parquet", folder / "rules")
    return ("open-loop", *places, "--affine", "1000,100", "--queue-size", 4, "--in-flight", 16, "--out", folder / "out")


def test_both_traces_meet_the_same_configurations_and_arrivals(simulate, folder):
    status, printed, _ = simulate(*words(folder), "--replications", 2, "--jobs", 1)
    assert status == 0
    assert printed.endswith(f"1 rules in {folder / 'out'}\n")
    one, other = (folder / "out" / "wide-delta-0.4" / kind for kind in ("regated", "recorded"))
    assert run_names(one) == run_names(other)
    assert len(run_names(one)) == 4
    for name in run_names(one):
        regated, recorded = load_run(one, name), load_run(other, name)
        config = RunConfig.from_dict(regated.header["config"])
        assert regated.header["config"] == recorded.header["config"]
        assert regated.header["trace_digest"] != recorded.header["trace_digest"]
        assert regated.batches["size"].sum() > recorded.batches["size"].sum()
        if config.arrivals == "poisson":
            assert np.array_equal(regated.passes["arrival_ns"], recorded.passes["arrival_ns"])
    source = folder / "out" / "source"
    assert len(run_names(source)) == 2
    # every token: three dense blocks and four experts in each of two layers
    assert load_run(source, run_names(source)[0]).batches["size"].sum() == 80 * (3 + 2 * 4)


def test_a_second_call_keeps_what_is_there(simulate, folder):
    simulate(*words(folder), "--jobs", 1)
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.parquet")}
    assert simulate(*words(folder), "--jobs", 1)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "out").rglob("*.parquet")} == before


def test_bad_input_is_one_line_and_status_2(simulate, folder):
    other = source_trace()
    stranger = replace(other, header=replace(other.header, notes={"training": {"seed": 1}}))
    save_trace(stranger, folder / "rules" / "wide-k4.trace.parquet")
    status, _, errors = simulate(*words(folder), "--jobs", 1)
    assert status == 2
    assert "wide-k4.trace.parquet: is no partner of its source: training" in errors.splitlines()[-1]
    status, printed, errors = simulate(
        "open-loop", folder / "wide.trace.parquet", folder, "--affine", "1,1", "--out", "x"
    )
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert "holds no wide-*.trace.parquet" in errors
