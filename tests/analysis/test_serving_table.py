"""Operating points served: one row per point, arrivals and source; throughput compared, holes named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis.builds import BUILDS
from analysis.inputs import Inputs
from analysis.log_sets import LogSet
from analysis.serving import build_serving, serving_claim, serving_rows
from simulate.costs import CostModel
from simulate.policies.config import RunConfig
from simulate.policies.recording import run_header
from simulate.runs import Runs, choices_only
from traces.header import Header, ModelInfo
from traces.run_records import RunRecords
from traces.selections import Trace
from traces.trace_file import save_trace

CLOSED = RunConfig(queue_size=4, arrivals="closed", in_flight=32, sequences=1500, seed=0)
POISSON = RunConfig(queue_size=4, arrivals="poisson", rate_per_s=2000.0, load=0.4, sequences=1500, seed=0)


def recorded(counts, rule, seed=0):
    """A trace of 300 tokens in one layer of 8 experts, `counts` experts each in turn; a third is answered wrongly."""
    draws = np.random.default_rng(seed)
    order_TE = np.argsort(draws.random((300, 8)), axis=1)[:, :4]
    count_T = np.resize(counts, 300)
    experts_TLK = np.where(np.arange(4) < count_T[:, None], order_TE, -1)[:, None].astype(np.int16)
    header = Header(
        model=ModelInfo(name="toy", experts=8, used_k=4, layer_ids=(0,)), gate_rule="softmax over the chosen",
        score_kind=None, ranked=True, device="none", data={"name": None, "digest": None, "note": None},
        notes={"k_rule": rule},
    )  # fmt: skip
    ids = np.arange(300, dtype=np.int32)
    zeros = np.zeros(300, np.int32)
    return Trace(
        header=header, experts_TLK=experts_TLK, sequence_T=ids, position_T=zeros, step_T=ids // 50,
        phase_T=np.zeros(300, np.int8), label_S=zeros, prediction_S=(ids % 3 == 0).astype(np.int32),
    )  # fmt: skip


@pytest.fixture
def world(tmp_path):
    """A set with a fixed point of four experts and a dynamic one of two on average, executed 10 % slower than costs."""
    folder, simulated = tmp_path / "logs" / "cpu-toy" / "toy", tmp_path / "simulated"
    (folder / "rules").mkdir(parents=True)
    for name, counts, rule in (("wide-k4", [4], None), ("wide-delta-0.5", [1, 3], "delta:0.5:4")):
        trace = recorded(counts, rule)
        save_trace(trace, folder / "rules" / f"{name}.trace.parquet")
        for source, slower, place in (("executed", 1.1, folder), ("simulated", 1.0, simulated)):
            for config in (CLOSED, POISSON):
                costs = CostModel(line_ns=(20000 * slower, 5000 * slower))
                runs = Runs(choices_only(trace), trace.digest, costs, Path(), {})
                found = runs.simulate(replace(config, dense=False))
                header = run_header(source, replace(config, dense=False), "toy", trace.digest, None, {})
                RunRecords(found.passes, found.batches, header).save(place / "serving" / name, config.name)
    return LogSet("cpu-toy", "toy", folder, simulated)


def test_points_stand_by_mean_k_with_what_their_trace_says(world):
    rows = serving_rows(Inputs([world]), world)
    assert [row["point"] for row in rows][:4] == ["wide-delta-0.5"] * 4
    assert [row["point"] for row in rows][4:] == ["wide-k4"] * 4
    for row in rows:
        assert row["mean_k"] == (2.0 if row["dynamic"] else 4.0)
        assert row["accuracy_percent"] == pytest.approx(200 / 3)
    assert {row["rule"] for row in rows} == {"delta:0.5:4", "fixed k=4"}


def test_executed_runs_are_a_tenth_slower_and_ran_the_same_batches(world, tmp_path):
    (tmp_path / "out").mkdir()
    assert build_serving(Inputs([world]), tmp_path / "out") == []
    rows = serving_rows(Inputs([world]), world)
    closed = {(row["point"], row["source"]): row["throughput_per_s"] for row in rows if row["mode"] == "closed"}
    for point in ("wide-k4", "wide-delta-0.5"):
        assert closed[point, "simulated"] / closed[point, "executed"] == pytest.approx(1.1, rel=0.01)
    assert closed["wide-delta-0.5", "executed"] > 1.5 * closed["wide-k4", "executed"]  # half the work
    assert all((row["identical_runs"], row["comparable_runs"]) == (1, 1) for row in rows)
    claim = (tmp_path / "out" / "claims.json").read_text()
    assert "mean K 2.00" in claim
    assert "2 of 2 comparable runs" in claim


def test_what_is_missing_is_named(world, tmp_path):
    (world.folder / "rules" / "wide-k4.trace.parquet").unlink()
    rows = serving_rows(Inputs([world]), world)
    assert [row["status"] for row in rows if row["point"] == "wide-k4"] == ["failed"]
    empty = LogSet("cpu-toy", "empty", tmp_path / "empty", None)
    assert serving_rows(Inputs([empty]), empty) == []
    (tmp_path / "out").mkdir()
    assert build_serving(Inputs([empty]), tmp_path / "out")
    assert "serving" in BUILDS
    assert serving_claim(pd.DataFrame())["claim"] == "No operating point was served."
