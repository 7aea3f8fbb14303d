"""The study of SmartMoE's published times, on files of its form that are made here, and on the published ones."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
from published_files import LAYERS, POINTS, write_published_files
from typer.testing import CliRunner

from moe_replay.analysis.__main__ import app
from moe_replay.analysis.reading.smartmoe_files import read_published
from moe_replay.analysis.tables.published_placement import published_tables
from moe_replay.traces.errors import InputError
from moe_replay.traces.glossary.lookup import find

REAL = Path(os.environ.get("MOE_REPLAY_TRACES", Path(__file__).resolve().parents[4] / "shared" / "data" / "traces"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("smartmoe")
    write_published_files(path)
    return path


def test_exact_lines_are_predicted_exactly(folder):
    tables = published_tables(read_published(folder))
    calibrated, published, constants = tables["placement_published"]
    assert (calibrated["a_ms"], calibrated["us_per_selection"]) == pytest.approx((2, 10))
    assert (calibrated["mape_percent"], calibrated["r2"]) == pytest.approx((0, 1), abs=1e-9)
    assert published["mape_percent"] == pytest.approx(10)
    assert calibrated["points"] == published["points"] == constants["points"] == 25 * LAYERS
    (search,) = tables["placement_search"]
    assert search["measured_speed_up"] == 1
    assert search["predicted_speed_up"] > 1  # the rule plans from what runs, and so it balances
    assert search["published_changes"] == 7
    points = pd.DataFrame(tables["placement_published_points"])
    assert points.groupby("placement").size().to_dict() == {
        "contiguous": 49 * LAYERS + POINTS - 1, "smartmoe": POINTS - 1
    }  # fmt: skip


def test_the_command_writes_what_it_prints(folder, tmp_path):
    done = CliRunner().invoke(app, ["smartmoe", str(folder), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "ours from" in done.output
    for name in ("placement_published", "placement_search", "placement_published_points"):
        for column in pd.read_csv(tmp_path / "out" / f"{name}.csv").columns:
            find(column)
    assert "placement" in json.loads((tmp_path / "out" / "claims.json").read_text())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: (path / "measured_ms.json").unlink(), "measured_ms.json: no such file; needed: moe_trace"),
        (lambda path: (path / "measured_ms.json").write_text("{}"), "no table of measured times"),
        (lambda path: (path / "fig13_layer6.npz").write_text("x"), "no arrays work_SE and plan_SE"),
        (lambda path: [each.unlink() for each in (path / "moe_trace").glob("*iter4901*")], "lacks iterations"),
        (
            lambda path: (path / "measured_ms.json").write_text(
                (path / "measured_ms.json").read_text().replace("[", "[1.0, ", 1)
            ),
            "times, allowed 98 above 0",
        ),
    ],
)
def test_what_is_missing_or_damaged_is_named(folder, damage, said, tmp_path):
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(InputError, match=said):
        read_published(tmp_path / "copy")


@pytest.mark.skipif(not (REAL / "smartmoe/measured_ms.json").is_file(), reason="needs SmartMoE's published times")
@pytest.mark.timeout(120)
def test_published_times_follow_from_the_trace():
    tables = published_tables(read_published(REAL / "smartmoe"))
    fits = {
        row["published_setting"]: (row["mape_percent"] / 100, row["r2"], row["a_ms"], row["us_per_selection"])
        for row in tables["placement_published"] if row["predictor"] == "calibrated"
    }  # fmt: skip
    right = {
        "8-4": (0.02104, 0.96795, 8.79808, 0.24933), "8-8": (0.01397, 0.99039, 11.15514, 0.55714),
        "16-8": (0.04505, 0.88918, 59.27378, 0.77311),
    }  # fmt: skip
    for name, values in right.items():
        assert fits[name] == pytest.approx(values, abs=1e-5)
    search = {row["published_setting"]: row for row in tables["placement_search"]}
    for name, predicted, measured, changes in (("freq10", 1.46558, 1.46114, 81), ("freq100", 1.32807, 1.34999, 13)):
        assert search[name]["predicted_speed_up"] == pytest.approx(predicted, abs=1e-5)
        assert search[name]["measured_speed_up"] == pytest.approx(measured, abs=1e-5)
        assert search[name]["changes"] == changes
