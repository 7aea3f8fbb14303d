"""The tables peak_memory: rows and claim by hand, sets without such logs, damaged ones."""

import json

import pandas as pd
import pytest
from step_logs import write_step_logs

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.tables.peak_memory.build import build_peak_memory
from moe_replay.figures.drawing.table_files import TableFiles
from moe_replay.figures.gallery import draw_one


@pytest.fixture
def logs(tmp_path):
    write_step_logs(tmp_path / "logs" / "cpu-toy" / "training-steps")
    return tmp_path / "logs"


def build(logs):
    out = logs.parent / "tables"
    out.mkdir(exist_ok=True)
    return build_peak_memory(Inputs(find_log_sets(logs, None)), out), out


def test_peaks_stand_beside_eager_the_captured_order_and_the_bound(logs):
    holes, out = build(logs)
    assert holes == []
    rows = pd.read_csv(out / "peak_memory.csv")
    assert len(rows) == 10
    by = rows.set_index(["graph", "step_order", "interleaved"])
    best = by.loc[("cls-b128-ac", "best", True)]
    assert best["over_eager_percent"] == pytest.approx(-20)
    assert best["over_captured_percent"] == pytest.approx(-20)
    assert best["over_bound_percent"] == pytest.approx(100 / 15)
    assert not best["proved"]
    assert by.loc[("cls-b64-ac", "best", True), "proved"]
    # what bounds all orders bounds the captured one too; what waits has a bound of its own
    assert by.loc[("cls-b64-ac", "captured", False), "over_bound_percent"] == pytest.approx(50)
    assert by.loc[("cls-b64-ac", "best", False), "over_bound_percent"] == pytest.approx(100 * (800 / 780 - 1))
    assert by.loc[("cls-b128-ac", "best", False), "proved"]
    about = json.loads((out / "peak_memory.json").read_text())
    names = ("cls-b64-ac.orders.csv", "cls-b128-ac.orders.csv", "vit-b8.compiled.csv", "vit-b8-ac.compiled.csv")
    assert set(about["inputs"]) == {f"cpu-toy/training-steps/{name}" for name in names}


def test_compiled_iterations_stand_beside_eager(logs):
    _, out = build(logs)
    rows = pd.read_csv(out / "peak_memory_compiled.csv").set_index(["checkpoint", "way"])
    assert rows.loc[("layer", "compiled"), "over_eager_percent"] == pytest.approx(21)
    assert rows.loc[("none", "compiled, pass"), "time_over_eager"] == pytest.approx(0.6)
    refused = rows.loc[("layer", "whole step")]
    assert (refused["status"], refused["reason"]) == ("skipped", "draws")
    assert pd.isna(refused["over_eager_percent"])


def test_the_claim_counts_what_the_rows_say(logs):
    _, out = build(logs)
    claim = json.loads((out / "claims.json").read_text())["peak_memory"]
    found = claim["numbers"]["cpu-toy/training-steps"]
    assert found["median_below_eager_percent"] == pytest.approx((40 + 20) / 2)
    assert found["median_below_captured_percent"] == pytest.approx((100 / 3 + 20) / 2)
    assert found["median_below_captured_waiting_percent"] == pytest.approx((100 / 9 + 5) / 2)
    assert (found["iterations"], found["proved"], found["above_captured"], found["as_predicted"]) == (2, 1, 0, 8)
    for told in (
        "30 % less memory than eager", "(20 to 40 %)", "never more than the captured", "1 of 2 orders",
        "all 8 of 8 runs", "saves 8 %", "interleaving it 27 %", "compiled +21 %, compiled, pass +14 %",
    ):  # fmt: skip
        assert told in claim["claim"]


def test_without_compiled_iterations_nothing_is_missing(logs):
    for path in logs.rglob("*.compiled.csv"):
        path.unlink()
    found, out = build(logs)
    assert found == []
    tables = TableFiles(out)
    draw_one("peak_memory", tables)
    assert tables.holes == []


def test_without_such_logs_there_is_no_table_and_no_hole(logs, capsys):
    for path in logs.rglob("*.csv"):
        path.unlink()
    (logs / "cpu-toy" / "training-steps" / "memory.csv").write_text("")
    assert build(logs)[0] == []
    assert "no set holds *.orders.csv" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("lpmf,True", "mine,True", ""), ("best,", "worst,", "no row of order 'best'"),
        ("captured,False", "eager,False", "no row of order"), (",1000,", ",0,", "allocated_bytes is 0"),
        ("lpmf,True", "best,True", "repeats the order"),
    ],
)  # fmt: skip
def test_a_damaged_log_is_a_row_that_says_so(logs, old, new, said):
    path = logs / "cpu-toy" / "training-steps" / "cls-b64-ac.orders.csv"
    path.write_text(path.read_text().replace(old, new))
    holes, out = build(logs)
    assert len(holes) == bool(said)
    assert all(said in line for line in holes)
    assert (pd.read_csv(out / "peak_memory.csv")["graph"] == "cls-b128-ac").sum() == 5
