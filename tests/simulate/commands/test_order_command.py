"""`simulate order` on the command line: its table, its files, and what it refuses."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

from moe_replay.simulate.ordering.order_names import POLICIES
from moe_replay.traces.training_graphs.graph_file import save_graph
from moe_replay.traces.training_graphs.training_graph import training_graph

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def graph_path(tmp_path):
    """A gradient per layer that the optimizer could use at once; captured with the optimizer last."""
    rows = [("back2", "mm", "backward", 0), ("back1", "mm", "backward", 0)]
    rows += [("step2", "adam", "optimizer", 0), ("step1", "adam", "optimizer", 0)]
    save_graph(
        training_graph("two layers", rows, [(4, 0, False, [2]), (4, 1, False, [3])], [(0, 1)]), tmp_path / "g.json"
    )
    return tmp_path / "g.json"


def simulate(*words):
    done = subprocess.run(
        [sys.executable, "-m", "simulate", "order", *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def test_interleaving_the_optimizer_halves_the_peak(graph_path, tmp_path):
    for words, peak in (((), 4), (("--reorder-only",), 8)):
        out = tmp_path / f"{peak}.json"
        assert simulate(graph_path, *words, "--seconds", 5, "--out", out)[0] == 0
        told = json.loads(out.read_text())
        assert (told["order_peak_bytes"], told["order_bound_bytes"], told["proved"]) == (peak, peak, True)
        assert told["reorder_only"] == bool(words)


def test_all_policies_are_a_table_with_a_line_for_each_that_refuses(graph_path, tmp_path):
    status, said, _ = simulate(graph_path, "--policy", "all", "--seconds", 2, "--out", tmp_path / "all.csv")
    assert status == 0
    rows = list(csv.DictReader((tmp_path / "all.csv").open()))
    assert [row["order_policy"] for row in rows] == list(POLICIES)
    assert all(row["refused"] or int(row["order_bound_bytes"]) == 4 for row in rows)
    assert "best" in said
    assert json.loads((tmp_path / "all.json").read_text())["order_peak_bytes"] == 4


def test_bad_input_is_one_line(graph_path):
    for words, line in (
        (("--policy", "bets"), "unknown order policy 'bets'; known: best"),
        (("--seconds", "nan"), "'nan' is no time"),
        (("--out", str(graph_path)), "is an input"),
    ):
        status, _, wrong = simulate(graph_path, *words)
        assert status == 2
        assert line in wrong
        assert len(wrong.strip().splitlines()) == 1
