"""The table of executed exchanges beside ports: rows by hand, the claim, what is missing or of another log."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from port_logs import write_port_log, write_predicted

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.tables.all_to_all import build_all_to_all
from moe_replay.simulate.__main__ import app as simulate_app
from moe_replay.traces.command_line.command import status_of

SHIPPED = Path(__file__).resolve().parents[3] / "traces" / "data"
EXECUTED, PREDICTED = "cpu-toy/cluster/ports.parquet", "cpu-toy/cluster/all-to-all.parquet"


@pytest.fixture
def logs(tmp_path):
    """Logs of one set, and what was predicted of it."""
    write_predicted(tmp_path / "simulated" / PREDICTED, write_port_log(tmp_path / "logs" / EXECUTED))
    return tmp_path


def build(folder):
    """Return the holes, the tables and the claim."""
    out = folder / "tables"
    out.mkdir(exist_ok=True)
    holes = build_all_to_all(Inputs(find_log_sets(folder / "logs", folder / "simulated")), out)
    made = [pd.read_csv(out / f"all_to_all{ending}.csv") for ending in ("", "_summary")]
    return holes, *made, json.loads((out / "claims.json").read_text())["all_to_all"]


def test_rows_by_hand(logs):
    """Ports take 3 us for the balanced exchange and 10 us for the other; the medians are 1.1 times as long."""
    holes, rows, summary, claim = build(logs)
    assert not holes
    assert rows["pattern"].tolist() == ["balanced", "all-to-one"]  # what was fitted does not count
    assert rows["messages"].tolist() == [2, 1]
    assert rows["exchange_bytes"].tolist() == [4000, 9000]
    assert rows["repetitions"].tolist() == [3, 3]
    assert rows["ports_ms"].tolist() == [0.003, 0.01]
    assert rows["took_ms"].tolist() == [0.0033, 0.011]
    assert rows["took_least_ms"].tolist() == [0.003, 0.01]
    assert rows["took_most_ms"].tolist() == [0.0045, 0.015]
    assert rows["ports_error_percent"].tolist() == pytest.approx([-100 / 11] * 2)
    assert rows["message_error_percent"].tolist() == pytest.approx([100 / 11] * 2)
    (of_all,) = summary.to_dict("records")
    assert (of_all["way"], of_all["devices"], of_all["exchanges"]) == ("paced", 2, 2)
    assert of_all["mape_percent"] == of_all["worst_error_percent"] == pytest.approx(100 / 11)
    assert of_all["spread_percent"] == pytest.approx(100 * 0.5 / 1.1)
    spread = (0.011 - 0.0033) ** 2 / 2
    assert of_all["r2"] == pytest.approx(1 - (0.0003**2 + 0.001**2) / spread)
    assert (of_all["port_latency_us"], of_all["port_megabytes_per_s"]) == (1, 1000)
    assert "processes whose ports keep a pace: 9.1 % among 2 (at most 9.1 %" in claim["claim"]


def test_what_is_missing_or_of_another_log_is_a_hole(logs):
    write_port_log(logs / "logs" / EXECUTED, late=(1.0, 1.2))
    (hole,), rows, _, claim = build(logs)
    assert "all-to-all.parquet: was predicted for another ports.parquet" in hole
    assert (rows["status"].tolist(), claim["claim"]) == (["failed"], "No executed exchange was predicted.")
    (logs / "simulated" / PREDICTED).unlink()
    assert "which `python -m simulate logs` makes: no such file" in build(logs)[0][0]
    path = logs / "logs" / EXECUTED
    path.write_bytes(path.read_bytes()[:-40])
    assert "ports.parquet" in build(logs)[0][0]


def test_shipped_exchanges_of_paced_ports_are_predicted_and_plain_loopback_is_not(tmp_path):
    """At most 10 % in the mean and R2 of .98 or more, of at least 12 exchanges among two and four processes."""
    given = SHIPPED / "cpu-amd-epyc" / "cluster" / "ports.parquet"
    log, predicted = (tmp_path / name / "cpu-amd-epyc" / "cluster" for name in ("logs", "simulated"))
    log.mkdir(parents=True)
    shutil.copy(given, log)
    words = ["all-to-all", str(given), "--out", str(predicted / "all-to-all.parquet")]
    assert status_of(simulate_app, "simulate", words) == 0
    holes, _, summary, _ = build(tmp_path)
    assert not holes
    paced = summary[summary["way"].isin(["paced", "held"])]
    assert paced["devices"].tolist() == [2, 4, 2, 4]
    assert (paced["exchanges"] >= 12).all()
    assert (paced["mape_percent"] <= 10).all()
    assert (paced["r2"] >= 0.98).all()
    plain = summary[summary["way"] == "loopback"]
    assert (plain["mape_percent"] > 10).all()
    assert (plain["r2"] < 0.98).all()


def test_a_device_without_exchanges_lacks_nothing(tmp_path, capsys):
    folder = tmp_path / "logs" / "cpu-toy" / "digits"
    folder.mkdir(parents=True)
    (folder / "quality.csv").write_text("k\n")
    assert build_all_to_all(Inputs(find_log_sets(tmp_path / "logs", None)), tmp_path) == []
    assert "no set holds ports.parquet" in capsys.readouterr().out
