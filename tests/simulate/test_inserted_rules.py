"""A rule put into any place of the tables of names changes nothing that others answer, and runs as itself."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sweep_worlds import toy_trace

from traces.trace_file import save_trace

HERE = Path(__file__).resolve().parent


@pytest.mark.skipif(not hasattr(os, "fork"), reason="every place is tried in a copy of one process")
def test_a_rule_of_ones_own_at_every_place(tmp_path):
    save_trace(toy_trace(tokens=60), tmp_path / "toy.trace.parquet")
    words = [sys.executable, HERE / "inserted_rules.py", tmp_path / "toy.trace.parquet", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    untouched = json.loads((tmp_path / "untouched.json").read_text())
    places = sorted(path for path in tmp_path.glob("*.json") if path.stem.isdigit())
    assert len(places) == 16
    for path in places:
        found = json.loads(path.read_text())
        assert found["simulated"] == untouched["simulated"], f"inserted at {path.stem}"
        assert found["counted"] == untouched["counted"], f"inserted at {path.stem}"
        for name, said in found["own"].items():
            if name.endswith("auto"):
                assert said[0] == "simpy", name
            else:
                assert said.startswith("engine 'compiled' does not have "), name
                assert said.endswith(" 'own'; allowed: --engine simpy or auto"), name
        assert len(found["own"]) == 2 * 4
    compiled, simpy = (
        {name.rpartition(" ")[0]: said[1:] for name, said in untouched["simulated"].items() if said[0] == engine}
        for engine in ("compiled", "simpy")
    )
    assert compiled == simpy
    assert len(compiled) >= 4 + 1 + 15 + 4 + 3 + 1 + 2  # what differs of every kind
