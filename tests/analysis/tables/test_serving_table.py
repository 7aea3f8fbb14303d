"""Operating points served: one row per point, arrivals and source; throughput compared, holes named."""

import pandas as pd
import pytest
from serving_worlds import serving_world

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import LogSet
from moe_replay.analysis.table_builds import BUILDS
from moe_replay.analysis.tables.delta_k_serving import build_serving, serving_claim, serving_rows


@pytest.fixture
def world(tmp_path):
    folder, simulated = tmp_path / "logs" / "cpu-toy" / "toy", tmp_path / "simulated"
    folder.mkdir(parents=True)
    serving_world(folder, simulated)
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
    closed = {(row["point"], row["source"]): row["throughput_per_s"] for row in rows if row["arrivals"] == "closed"}
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
    assert "delta_k_serving" in BUILDS
    assert serving_claim(pd.DataFrame())["claim"] == "No operating point was served."
