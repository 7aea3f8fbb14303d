"""The tables balance and placement: what was simulated becomes rows and a sentence, what was not becomes a hole."""

import json
import shutil

import pandas as pd
import pytest
from placing_logs import training_loads

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.reading.placed_experts import read_placed
from moe_replay.analysis.reading.rebalanced_loads import read_rebalanced
from moe_replay.analysis.tables.balance import build_balance
from moe_replay.analysis.tables.placement import build_placement
from moe_replay.traces.errors import InputError

BUILDS = {"balance": build_balance, "placement": build_placement}


@pytest.fixture
def logs(placements, tmp_path):
    """Return a copy of (logs, simulated)."""
    for source, name in zip(placements, ("logs", "simulated"), strict=True):
        shutil.copytree(source, tmp_path / name)
    return tmp_path / "logs", tmp_path / "simulated"


def built(logs, name, out):
    out.mkdir(exist_ok=True)
    return BUILDS[name](Inputs(find_log_sets(*logs)), out)


def test_balance_of_every_planner_and_the_sentence(logs, tmp_path):
    assert built(logs, "balance", tmp_path / "out") == []
    table = pd.read_csv(tmp_path / "out" / "balance.csv")
    assert list(dict.fromkeys(table["trace"])) == ["wide", "language-decode", "training"]
    training = table[table["trace"] == "training"].set_index(["planner", "redundant"])["device_max_over_mean"]
    assert training["contiguous", 0] > 1.3 > training["greedy", 0]  # both hot experts are on the first device
    assert training["bound", 0] <= training["lpt", 0]
    claim = json.loads((tmp_path / "out" / "claims.json").read_text())["balance"]
    assert "of 2 devices" in claim["claim"]
    assert "of 3 traces" in claim["claim"]
    assert claim["numbers"]["cpu-toy/text training"]["max_over_mean contiguous"] == pytest.approx(
        training["contiguous", 0], rel=1e-6
    )


def test_placement_over_iterations_and_layers(logs, tmp_path):
    assert built(logs, "placement", tmp_path / "out") == []
    names = ("placement", "placement_iterations", "placement_layers")
    table, iterations, layers = (pd.read_csv(tmp_path / "out" / f"{name}.csv") for name in names)
    uneven = table[(table["trace"] == "unbalanced") & (table["adopt_threshold"] != 1.1)].set_index("placement")
    assert (uneven["balance_loss"] == 0).all()
    assert (uneven["iterations_per_point"] == 5).all()
    rules = uneven.loc["rebalanced"].set_index("iterations")
    assert sorted(rules.index) == [0, 5, 15]
    assert rules.loc[5, "device_max_over_mean"] < uneven.loc["contiguous", "device_max_over_mean"]
    moved = rules.loc[5, "copies_per_layer"]
    assert rules.loc[5, "copies_per_1000_iterations"] == pytest.approx(moved / 60 * 1000, rel=1e-6)
    for means, count in ((iterations, 12), (layers, 2)):
        assert means.groupby(["trace", "plan_interval"]).size().to_dict() == {
            (trace, interval): count for trace in ("balanced", "unbalanced") for interval in (0, 1)
        }  # fmt: skip
    static = layers[(layers["trace"] == "unbalanced") & (layers["plan_interval"] == 0)]["device_max_over_mean"]
    assert static.mean() == pytest.approx(uneven.loc["contiguous", "device_max_over_mean"], rel=1e-6)
    claim = json.loads((tmp_path / "out" / "claims.json").read_text())["placement"]["claim"]
    assert "toy-moe trained without its balance loss: the heaviest of 2 devices" in claim


@pytest.mark.parametrize(
    ("name", "file"), [("balance", "placed/training/placements.csv"), ("placement", "rebalanced/unbalanced.csv")]
)
def test_what_was_not_simulated_is_a_hole(name, file, logs, tmp_path):
    (logs[1] / "cpu-toy" / "text" / file).unlink()
    (hole,) = built(logs, name, tmp_path / "out")
    assert "cpu-toy/text" in hole
    assert "python -m simulate logs" in hole


@pytest.mark.parametrize("name", BUILDS)
def test_other_loads_than_were_simulated_are_a_hole(name, logs, tmp_path):
    training_loads(0.5).save(logs[0] / "cpu-toy" / "text" / "training" / "unbalanced.loads.parquet")
    (hole,) = built(logs, name, tmp_path / "out")
    assert "failed" in hole
    assert " are " in hole


@pytest.mark.parametrize("read", [read_placed, read_rebalanced])
def test_other_tables_are_refused(read, tmp_path):
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match=r"x.csv: "):
        read(tmp_path / "x.csv")


def test_no_loads_are_said(logs, tmp_path):
    for folder in logs[0].glob("*/*/training"):
        shutil.rmtree(folder)
    (hole,) = built(logs, "placement", tmp_path / "out")
    assert "no set holds loads in training/" in hole
