"""Loads recorded while a model trains: every counted selection once, also of a training that was cut off."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cut_off import CutOffError, cut_off_at
from typer.testing import CliRunner

from moe_replay.collect.commands import language_commands, vision_commands  # noqa: F401 - both register their commands
from moe_replay.collect.commands.app import app
from moe_replay.collect.datasets.text_corpus import read_corpus
from moe_replay.collect.models.language_model import LanguageConfig
from moe_replay.collect.models.vision_transformer import VisionConfig
from moe_replay.collect.recording.load_counting import LoadCounter
from moe_replay.collect.training.language_training import LanguageTraining, train_language
from moe_replay.collect.training.processes import alone
from moe_replay.collect.training.vision_training import VisionTraining, train_vision
from moe_replay.traces.errors import InputError
from moe_replay.traces.load_trace import read_loads

CPU = torch.device("cpu")
SWITCH = VisionConfig(variant="switch", experts=4, width=16, hidden=16, depth=2, heads=2, patch=5)
BYTES = LanguageConfig(layers=2, experts=4, k=2, width=8, hidden=8, heads=2, window=16)
SMALL = ["--data", "digits", "--patch", "4", "--width", "16", "--hidden", "16", "--depth", "2", "--heads", "2"]
SMALL += ["--epochs", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "novels").mkdir()
    for number in range(30):
        (folder / "novels" / f"{number}.txt").write_text(f"Chapter {number}, of a novel. " * 6)
    return read_corpus(["novels"], folder)


def test_vision_counts_every_patch_of_counted_steps_and_no_evaluation(blobs, tmp_path):
    training, counter = VisionTraining(epochs=2, batch=64), LoadCounter(4)
    train_vision(blobs, SWITCH, training, alone(CPU), tmp_path / "m.pt", counter=counter)
    assert counter.steps == [0, 4, 8, 12, 16]  # 10 steps an epoch; the last of each has 24 images
    np.testing.assert_array_equal(counter.load_SLE.sum(2), np.full((5, 2), 64 * 4))
    again = LoadCounter(1)
    train_vision(blobs, SWITCH, training, alone(CPU), tmp_path / "each.pt", counter=again)
    np.testing.assert_array_equal(again.load_SLE[::4], counter.load_SLE)
    assert again.load_SLE[9].sum() == 24 * 4 * 2


def test_a_vision_training_that_was_cut_off_counts_as_a_whole_one(blobs, tmp_path):
    training, whole = VisionTraining(epochs=3, batch=64), LoadCounter(3)
    train_vision(blobs, SWITCH, training, alone(CPU), tmp_path / "whole.pt", counter=whole)
    with pytest.raises(CutOffError):
        train_vision(blobs, SWITCH, training, alone(CPU), tmp_path / "cut.pt", cut_off_at(2), LoadCounter(3))
    resumed = LoadCounter(3)
    train_vision(blobs, SWITCH, training, alone(CPU), tmp_path / "cut.pt", counter=resumed)
    assert resumed.steps == whole.steps
    np.testing.assert_array_equal(resumed.load_SLE, whole.load_SLE)


def test_a_language_training_that_was_cut_off_counts_as_a_whole_one(corpus, tmp_path):
    training, whole = LanguageTraining(steps=9, batch=3), LoadCounter(2)
    train_language(corpus, BYTES, training, CPU, tmp_path / "whole.pt", counter=whole)
    np.testing.assert_array_equal(whole.load_SLE.sum(2), np.full((5, 2), 3 * 16 * 2))
    with pytest.raises(CutOffError):
        train_language(corpus, BYTES, training, CPU, tmp_path / "cut.pt", 0.0, cut_off_at(6), counter=LoadCounter(2))
    resumed = LoadCounter(2)
    train_language(corpus, BYTES, training, CPU, tmp_path / "cut.pt", counter=resumed)
    assert resumed.steps == whole.steps == [0, 2, 4, 6, 8]
    np.testing.assert_array_equal(resumed.load_SLE, whole.load_SLE)


def test_counts_that_a_checkpoint_lacks_are_not_made_up(blobs, tmp_path):
    training = VisionTraining(epochs=1, batch=64)
    train_vision(blobs, SWITCH, training, alone(CPU), tmp_path / "plain.pt")
    with pytest.raises(InputError, match="was begun without counting loads"):
        train_vision(blobs, SWITCH, training, alone(CPU), tmp_path / "plain.pt", counter=LoadCounter(2))
    train_vision(blobs, SWITCH, training, alone(CPU), tmp_path / "counted.pt", counter=LoadCounter(2))
    with pytest.raises(InputError, match="counts loads every 2 steps, not every 3"):
        train_vision(blobs, SWITCH, training, alone(CPU), tmp_path / "counted.pt", counter=LoadCounter(3))


def test_without_its_loss_load_leaves_balance(blobs, tmp_path):
    spread = {}
    for weight in (0.0, 0.1):
        counter = LoadCounter(1)
        config, training = replace(SWITCH, w_balance=weight), VisionTraining(epochs=6, batch=64)
        train_vision(blobs, config, training, alone(CPU), tmp_path / f"{weight}.pt", counter=counter)
        late_LE = counter.load_SLE[-20:].sum(0)
        spread[weight] = (late_LE.max(1) / late_LE.mean(1)).max()
    assert spread[0.1] < 1.6 < spread[0.0]


def test_the_command_leaves_a_load_trace_and_leaves_it_alone(tmp_path):
    words = ["vision", *SMALL, "--variant", "switch", "--experts", "4", "--balance", "0", "--loads-every", "3"]
    words += ["--record-loads", str(tmp_path / "v.loads.parquet"), "--out", str(tmp_path / "v.pt")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "counts of 4 iterations x 1 ranks x 1 microbatches x 2 layers x 4 experts" in done.output
    loads = read_loads(tmp_path / "v.loads.parquet")
    assert loads.iteration_S.tolist() == [1, 4, 7, 10]
    assert loads.model.name == "switch-vit-digits"
    assert loads.notes["config"]["w_balance"] == 0
    first = (tmp_path / "v.loads.parquet").read_bytes()
    assert CliRunner().invoke(app, words).exit_code == 0  # the counts come from the finished checkpoint
    assert (tmp_path / "v.loads.parquet").read_bytes() == first


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--variant", "dense"), "variant dense has no gate that learns, allowed: switch"),
        (("--variant", "random", "--experts", "4"), "variant random has no gate that learns"),
        (("--variant", "switch", "--experts", "4", "--gpus", "2"), "--gpus is 2; allowed: 1"),
    ],
)
def test_what_has_no_loads_of_its_own_is_refused(options, said, tmp_path):
    place = str(tmp_path / "v.loads.parquet")
    done = CliRunner().invoke(app, ["vision", *SMALL, *options, "--record-loads", place, "--out", str(tmp_path / "m")])
    assert isinstance(done.exception, InputError)
    assert said in str(done.exception)
    assert not list(tmp_path.iterdir())
