"""Training vision transformers: learns, resumes to the same bytes, runs in two processes, refuses what cannot be."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cut_off import CutOffError, cut_off_at
from typer.testing import CliRunner

from moe_replay.collect.commands import vision_commands  # noqa: F401 - registers its commands
from moe_replay.collect.commands.app import app
from moe_replay.collect.models.vision_transformer import VisionConfig
from moe_replay.collect.studies.vision_grid import contenders, summary
from moe_replay.collect.training.checkpoints import load_checkpoint
from moe_replay.collect.training.classifier_training import TrainingConfig, train
from moe_replay.collect.training.processes import Processes, alone, check_count
from moe_replay.collect.training.vision_training import (
    VisionTraining,
    new_vision_model,
    own_draws,
    restore_vision,
    train_epoch,
    train_vision,
)
from moe_replay.traces.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
CPU = alone(torch.device("cpu"))
SMALL = VisionConfig(width=16, hidden=24, depth=2, heads=2, patch=5)
RANDOM = replace(SMALL, variant="random", experts=3)
DIGITS = ("--data", "digits", "--patch", "4", "--depth", "1", "--width", "16", "--hidden", "16", "--heads", "2")


def collect(*words):
    return subprocess.run(
        [sys.executable, "-m", "collect", *words], cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.mark.parametrize(
    "config", [SMALL, replace(SMALL, variant="switch", experts=3), RANDOM], ids=lambda c: c.variant
)
def test_every_variant_learns(blobs, config, tmp_path):
    training = VisionTraining(epochs=8, batch=16, learning_rate=5e-3)
    _, about = train_vision(blobs, config, training, CPU, tmp_path / "m.pt")
    history = about["history"]
    assert history[-1]["test_accuracy"] > 0.8
    assert history[-1]["loss"] < history[0]["loss"]
    assert (history[-1]["drawn_accuracy"] is not None) == (config.variant == "random")


@pytest.mark.parametrize(
    ("config", "consistency"),
    [(RANDOM, True), (replace(SMALL, variant="switch", experts=3), False)],
    ids=["random", "switch"],
)
def test_interrupted_training_resumes_to_the_same_bytes(blobs, config, consistency, tmp_path):
    images = replace(blobs, mirrored=True)  # draws of augmentation too
    training = VisionTraining(epochs=3, batch=64, consistency=consistency)
    whole, about = train_vision(images, config, training, CPU, tmp_path / "whole.pt")
    with pytest.raises(CutOffError):
        train_vision(images, config, training, CPU, tmp_path / "cut.pt", cut_off_at(2))
    with pytest.raises(InputError, match="2 of 3 epochs are done"):
        restore_vision(tmp_path / "cut.pt")
    resumed, again = train_vision(images, config, training, CPU, tmp_path / "cut.pt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    timeless = [[{**entry, "seconds": 0} for entry in each["history"]] for each in (about, again)]
    assert timeless[0] == timeless[1]


def test_restore_returns_the_trained_model(blobs, tmp_path):
    model, _ = train_vision(blobs, SMALL, VisionTraining(epochs=1), CPU, tmp_path / "m.pt")
    again, about = restore_vision(tmp_path / "m.pt", blobs)
    pixels = torch.from_numpy(blobs.test_NF)
    assert torch.equal(model(pixels)[0], again(pixels)[0])
    assert about["model"]["variant"] == "dense"


def test_checkpoints_of_others_are_refused(blobs, small_config, tmp_path):
    training = VisionTraining(epochs=1)
    train_vision(blobs, SMALL, training, CPU, tmp_path / "m.pt")
    with pytest.raises(InputError, match=r"model.width is 16 there, 32 here"):
        train_vision(blobs, replace(SMALL, width=32), training, CPU, tmp_path / "m.pt")
    with pytest.raises(InputError, match="other images"):
        restore_vision(tmp_path / "m.pt", blobs.first(100, None))
    train(blobs, small_config, TrainingConfig(epochs=1), CPU.device, tmp_path / "classifier.pt")
    with pytest.raises(InputError, match="is no vision transformer"):
        restore_vision(tmp_path / "classifier.pt")
    with pytest.raises(InputError, match="is of another training"):
        train_vision(blobs, SMALL, training, CPU, tmp_path / "classifier.pt")


def test_a_batch_is_split_without_loss(blobs):
    rows = torch.arange(11).numpy()
    parts = [Processes(rank, 3, CPU.device).share(rows) for rank in range(3)]
    assert sorted(row for part in parts for row in part) == list(range(11))
    assert max(map(len, parts)) - min(map(len, parts)) == 1


def test_two_processes_train_the_dense_model_of_one(tmp_path):
    """The same global batches, uneven parts included (1,437 digits in batches of 63): equal up to rounding."""
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    options = (*DIGITS, "--epochs", "1", "--batch", "63", "--device", "cpu")
    assert CliRunner().invoke(app, ["vision", *options, "--out", str(one)]).exit_code == 0
    done = collect("vision", *options, "--gpus", "2", "--out", str(two))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == 1  # the first process alone speaks
    single, double = load_checkpoint(one), load_checkpoint(two)
    for name, tensor in single["model_state"].items():
        torch.testing.assert_close(double["model_state"][name], tensor, rtol=2e-2, atol=2e-3, msg=name)
    losses = [each["history"][0]["loss"] for each in (single, double)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert json.loads(two.with_suffix(".json").read_text())["results"]["epochs"] == 1


def test_processes_share_the_draw_of_an_expert_but_not_of_tokens(blobs):
    second = Processes(1, 2, CPU.device)
    assert own_draws(new_vision_model(blobs, RANDOM, 0), second) == 0
    for variant in ("switch", "random-per-token"):
        assert own_draws(new_vision_model(blobs, replace(RANDOM, variant=variant), 0), second) == 1


def test_every_step_sees_its_learning_rate_and_every_row(blobs):
    model = new_vision_model(blobs, SMALL, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)
    seen = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    train_epoch(model, optimizer, blobs, VisionTraining(epochs=4, batch=64), 1, CPU)
    assert seen == [64] * 9 + [24]
    assert optimizer.param_groups[0]["lr"] > 1e-4


def test_grid_and_times_leave_their_tables(tmp_path):
    models, table = tmp_path / "models", tmp_path / "vision.csv"
    options = ("--data", "digits", "--models", str(models), "--epochs", "2", "--variants", "dense,random:2")
    grid = ("vision-grid", *options, *DIGITS[2:], "--seeds", "2", "--jobs", "1", "--device", "cpu", "--threshold", "5")
    done = CliRunner().invoke(app, [*grid, "--out", str(table)])
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(table.open()))
    assert [(row["variant"], row["seed"]) for row in rows] == [
        ("dense", "0"),
        ("dense", "1"),
        ("random", "0"),
        ("random", "1"),
    ]
    assert {row["deployed_parameters"] for row in rows} == {rows[0]["trained_parameters"]}
    assert int(rows[2]["trained_parameters"]) > int(rows[0]["trained_parameters"])
    assert {row["first_epoch_over"] for row in rows} == {"1"}
    epochs = list(csv.DictReader((tmp_path / "vision_epochs.csv").open()))
    assert [row["drawn_accuracy"] == "" for row in epochs] == [True] * 4 + [False] * 4
    first = table.read_bytes()
    again = CliRunner().invoke(app, [*grid, "--out", str(table)])  # all finished: taken up, nothing trained
    assert again.exit_code == 0
    assert table.read_bytes() == first
    times = tmp_path / "vision_times.csv"
    done = CliRunner().invoke(
        app, ["vision-times", *options, "--repetitions", "2", "--training-images", "256", "--out", str(times)]
    )
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(times.open()))
    assert len(rows) == 2 * 2 * 2
    assert {(row["what"], row["images"]) for row in rows} == {("training", "256"), ("inference", "1797")}


def test_an_unreached_threshold_is_said(blobs, tmp_path):
    model, about = train_vision(blobs, SMALL, VisionTraining(epochs=1), CPU, tmp_path / "m.pt")
    assert summary(model, about["history"], 100.0)["first_epoch_over"] == "not reached"
    assert summary(model, about["history"], 0.0)["first_epoch_over"] == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dense,luck:3", "known: dense"),
        ("switch:four", "'switch:four' is not VARIANT"),
        ("switch:4:much", "is not VARIANT"),
        ("dense,dense", "dense is listed twice"),
        ("switch:4:consistency", "variant switch draws nothing"),
        ("random:0", "experts = 0, allowed 1 and more"),
    ],
)
def test_wrong_contenders_are_refused(text, words):
    with pytest.raises(InputError, match=words):
        contenders(text, SMALL)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--patch", "3"), "patch = 3, allowed: divisors of the image's 8x8"),
        (("--patch", "3", "--gpus", "2"), "patch = 3, allowed: divisors of the image's 8x8"),
        (("--variant", "luck"), "known: dense"),
        (("--patch", "2", "--consistency"), "variant dense draws nothing"),
        (("--patch", "2", "--batch", "1", "--gpus", "2"), "batch = 1, allowed: 2"),
    ],
)
def test_bad_options_are_one_line(options, words, tmp_path):
    done = CliRunner().invoke(
        app, ["vision", "--data", "digits", "--device", "cpu", *options, "--out", str(tmp_path / "m.pt")]
    )
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_more_gpus_than_there_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_count(8, torch.device("cpu"))
    with pytest.raises(InputError, match=r"--gpus 2: this machine has 1, allowed 1\.\.1"):
        check_count(2, torch.device("cuda"))


def test_a_threshold_out_of_range_is_a_usage_error(tmp_path):
    done = CliRunner().invoke(app, ["vision", *DIGITS, "--threshold", "101", "--out", str(tmp_path / "m.pt")])
    assert done.exit_code == 2
    assert "threshold" in done.output
