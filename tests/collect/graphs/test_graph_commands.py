"""`collect graph` and `collect peak-memory`: what they print, leave, take up and refuse."""

import csv

import pytest
from typer.testing import CliRunner

import moe_replay.collect.commands.graph_commands as graph_commands
from moe_replay.collect.commands.app import app
from moe_replay.collect.graphs.step_cases import StepCase
from moe_replay.collect.graphs.step_subjects import ModelSizes
from moe_replay.collect.studies import peak_memory_study
from moe_replay.traces.training_graphs.graph_file import load_graph

OWN = """
import torch
from torch import nn

def step(batch):
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 1))
    return model, lambda model, x: model(x).square().mean(), torch.ones(batch, 8)

def wrong(batch):
    return nn.Linear(1, 1)

def reads(batch):
    return nn.Linear(8, 1), lambda model, x: model(x).sum() * x.sum().item(), torch.ones(batch, 8)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a command in a folder that holds a user's module."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_step.py").write_text(OWN)
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *words: CliRunner().invoke(app, [*words, "--device", "cpu"])


def test_a_users_own_module_is_captured_and_its_orders_measured(run):
    done = run("graph", "--module", "own_step:step", "--batch", "16", "--orders", "captured,lpmf", "--out", "g.json.gz")
    assert done.exit_code == 0, done.output
    lines = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.split()}
    assert lines["captured"][-2:] == lines["lpmf"][-2:] == ["same", "bits"]
    assert lines["captured"][1] == lines["captured"][2] == lines["captured"][3]
    graph = load_graph("g.json.gz")
    assert (graph.name, graph.notes["model"], graph.notes["batch_size"]) == (
        "own_step-step-b16-adam",
        "own_step:step",
        16,
    )
    assert graph.provenance["seed"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--model classifier, vit, language or --module MODULE:FUNCTION: allowed: one of them"),
        (("--model", "vit", "--module", "own_step:step"), "allowed: one of them"),
        (("--model", "mlp"), "unknown model 'mlp'"),
        (("--model", "vit", "--checkpoint", "some"), "unknown checkpoint 'some'; known: layer, none, selective"),
        (("--model", "vit", "--optimizer", "lion"), "unknown optimizer 'lion'"),
        (("--model", "vit", "--dispatch", "dynamic"), "unknown dispatch 'dynamic'; known: gathered, static"),
        (("--model", "vit", "--orders", "captured,x"), "unknown order policy 'x'"),
        (("--module", "own_step"), "allowed MODULE:FUNCTION"),
        (("--module", "own_step:wrong"), "returned Linear, allowed (model, loss, batch)"),
        (("--module", "absent:step"), "no module absent"),
        (("--module", "own_step:reads"), "it reads a number out of a tensor"),
        (("--module", "own_step:step", "--checkpoint", "layer"), "--module has its own"),
    ],
)
def test_what_cannot_be_captured_is_refused(run, words, said, tmp_path):
    done = run("graph", *words, "--batch", "4", "--out", "g.json")
    assert done.exit_code != 0
    assert said in f"{done.output}{done.exception}"
    assert not (tmp_path / "g.json").exists()


def test_the_study_leaves_a_graph_and_a_table_and_takes_up_what_is_missing(run, monkeypatch, tmp_path):
    sizes = ModelSizes(layers=1, experts=2, k=1, width=16, hidden=16)
    monkeypatch.setitem(graph_commands.STUDY, "tiny", StepCase("classifier", 8, "layer", "adam", sizes=sizes))
    monkeypatch.setattr(peak_memory_study, "ORDERS", ("captured", "lpmf"))
    monkeypatch.setattr(peak_memory_study, "BEST", "lpmf")
    words = ("peak-memory", "--graphs", "tiny", "--seconds", "1", "--out", "steps")
    assert run(*words).exit_code == 0
    made = {path: path.read_bytes() for path in (tmp_path / "steps").iterdir()}
    assert {path.name for path in made} == {"tiny.graph.json.gz", "tiny.orders.csv"}
    with open("steps/tiny.orders.csv", newline="") as opened:
        rows = list(csv.DictReader(opened))
    assert [(row["step_order"], row["interleaved"]) for row in rows] == [
        ("eager", "False"), ("captured", "False"), ("lpmf", "True"), ("lpmf", "False")
    ]  # fmt: skip
    assert {row["same_bits"] for row in rows} == {"True"}
    assert len({row["predicted_bytes"] == row["counted_bytes"] == row["allocated_bytes"] for row in rows[1:]}) == 1
    assert load_graph("steps/tiny.graph.json.gz").name == "tiny"
    assert run(*words).exit_code == 0
    assert {path: path.read_bytes() for path in (tmp_path / "steps").iterdir()} == made
    assert "unknown iteration 'x'" in str(run("peak-memory", "--graphs", "x", "--out", "y").exception)
