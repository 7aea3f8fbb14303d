"""The table `skew`: rows of served layers, a sentence whose every number is a row's, and holes with a name."""

import json

import pandas as pd
import pytest
from skew_logs import served_layer, write_served_layer, write_simulated_skew

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.tables.skew.build import build_skew


@pytest.fixture
def logs(tmp_path):
    logs, simulated = tmp_path / "logs", tmp_path / "simulated"
    served = write_served_layer(logs / "gpu-toy" / "shapes")
    (served.parent / "link.parquet").touch()  # by which a folder is known for a set
    write_simulated_skew(served, simulated / "gpu-toy" / "shapes")
    (tmp_path / "out").mkdir()
    return logs, simulated


def built(logs, out):
    holes = build_skew(Inputs(find_log_sets(*logs)), out)
    return holes, pd.read_csv(out / "skew.csv"), json.loads((out / "claims.json").read_text())["skew"]


def test_rows_and_the_sentence(logs, tmp_path):
    """All eight selections of four tokens are on one of two devices: 110 us for its experts, 30 more for its load."""
    holes, table, claim = built(logs, tmp_path / "out")
    assert holes == []
    assert (table["status"] == "ok").all()
    hot = table[(table["devices"] == 2) & (table["spread"] == "recorded")].iloc[0]
    balanced = table[(table["devices"] == 2) & (table["spread"] == "balanced")].iloc[0]
    assert balanced["layer_us"] == pytest.approx(120)
    assert hot["layer_us"] == pytest.approx(110 + 140 - 110)
    assert hot["over_balanced"] == pytest.approx(140 / 120)
    assert hot["exchange_us"] == pytest.approx(8)
    assert hot["experts_us"] == pytest.approx(100)
    numbers = claim["numbers"]["toy (vllm 1, Toy H200)"]
    assert numbers["laws"] == pytest.approx([1.5, 1.5])
    assert numbers["trace"] == "hot"
    assert numbers["trace_over"] == pytest.approx(140 / 120)
    assert numbers["experts_over"] == pytest.approx([200 / 140] * 2)
    skewed = table[table["spread"] == "power_law_1.2"]["rule_error_percent"].abs()
    assert numbers["off_percent"] == pytest.approx(skewed.median(), rel=1e-6)
    for said in ("1.50 times as long", "1.17 times, by a rule", "1.43 times (bfloat16 beside bfloat16)", "Roofline:"):
        assert said in claim["claim"]


def test_what_is_missing_or_of_another_layer_is_a_hole(logs, tmp_path):
    path = logs[0] / "gpu-toy" / "shapes" / "toy-vllm.served.parquet"
    changed = served_layer()
    changed.header["source"] = "another toy"
    changed.save(path)
    (hole,), table, claim = built(logs, tmp_path / "out")
    assert "is of another toy-vllm.served.parquet than the one here" in hole
    assert table["status"].tolist() == ["failed"]
    assert claim == {"claim": "No served layer could be timed.", "numbers": {}}
    (logs[1] / "gpu-toy" / "shapes" / "skew" / "toy-vllm.csv").unlink()
    (hole,), table, _ = built(logs, tmp_path / "out")
    assert "which `python -m simulate logs` makes: no such file" in hole
    assert table["status"].tolist() == ["missing"]
    path.write_bytes(b"PAR1")
    (hole,), _, _ = built(logs, tmp_path / "out")
    assert "toy-vllm.served.parquet: not a whole Parquet file" in hole
    path.unlink()
    assert build_skew(Inputs(find_log_sets(*logs)), tmp_path / "out") == []
