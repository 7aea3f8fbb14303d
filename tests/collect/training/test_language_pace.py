"""A training of so many seconds: how many steps fit is measured once, and belongs to the training from then on."""

from types import SimpleNamespace

import pytest
import torch

from moe_replay.collect.datasets.text_corpus import read_corpus
from moe_replay.collect.models.language_model import LanguageConfig
from moe_replay.collect.training import training_pace
from moe_replay.collect.training.language_training import LanguageTraining, describe, train_language
from moe_replay.collect.training.training_pace import steps_within

CONFIG = LanguageConfig(layers=2, experts=4, k=2, width=8, hidden=8, heads=2, window=32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("text")
    (path / "docs").mkdir()
    for number in range(30):
        (path / "docs" / f"{number}.txt").write_text(f"Page {number} of the docs. " * 6)
    return read_corpus(["docs"], path)


def test_as_many_steps_as_fit(corpus, tmp_path, monkeypatch):
    """Three slow steps are not counted, a twentieth of the time measures the pace, the rest is for the training."""
    clock = SimpleNamespace(now=0.0, taken=0)

    def step(*_):
        clock.now += 0.5 if clock.taken < training_pace.WARM_STEPS else 1 / 64
        clock.taken += 1

    monkeypatch.setattr(training_pace, "train_step", step)
    monkeypatch.setattr(training_pace, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    training, out, cpu = LanguageTraining(batch=2), tmp_path / "m.pt", torch.device("cpu")
    assert steps_within(20.0, corpus, CONFIG, training, cpu, out) == (20.0 - 1.5 - 1.0) * 64
    assert steps_within(0.1, corpus, CONFIG, training, cpu, out) == 1


def test_a_training_that_was_begun_keeps_its_steps(corpus, tmp_path):
    timed, out, cpu = LanguageTraining(steps=2, batch=2, seconds=2.0), tmp_path / "m.pt", torch.device("cpu")
    train_language(corpus, CONFIG, timed, cpu, out)
    assert steps_within(2.0, corpus, CONFIG, timed, cpu, out) == 2


def test_a_training_by_steps_is_described_as_before(corpus):
    assert "seconds" not in describe(corpus, CONFIG, LanguageTraining())["training"]
    assert describe(corpus, CONFIG, LanguageTraining(seconds=3.0))["training"]["seconds"] == 3.0


def test_it_is_measured_where_it_trains(corpus, cuda, tmp_path):
    device = torch.device("cuda")
    steps = steps_within(1.0, corpus, CONFIG, LanguageTraining(batch=2), device, tmp_path / "m.pt")
    timed = LanguageTraining(steps=2, batch=2, seconds=1.0)
    model, about = train_language(corpus, CONFIG, timed, device, tmp_path / "m.pt")
    assert steps > 0
    assert model.embedding.device.type == "cuda"
    assert about["history"][-1]["step"] == 2
