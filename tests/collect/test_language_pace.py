"""A training of so many seconds: how many steps fit is measured once, and belongs to the training from then on."""

import time

import pytest
import torch

from collect.checkpoints import load_checkpoint
from collect.language.corpus import read_corpus
from collect.language.model import LanguageConfig
from collect.language.pace import steps_within
from collect.language.training import LanguageTraining, describe, train_language

CONFIG = LanguageConfig(layers=2, experts=4, k=2, width=8, hidden=8, heads=2, window=32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("text")
    (path / "docs").mkdir()
    for number in range(30):
        (path / "docs" / f"{number}.txt").write_text(f"Page {number} of the docs. " * 6)
    return read_corpus(["docs"], path)


def test_as_many_steps_as_fit(corpus, tmp_path):
    training, out = LanguageTraining(batch=2), tmp_path / "m.pt"
    began = time.perf_counter()
    steps = steps_within(2.0, corpus, CONFIG, training, torch.device("cpu"), out)
    measuring = time.perf_counter() - began
    assert measuring < 2.0
    assert steps > 10
    timed = LanguageTraining(steps=steps, batch=2, seconds=2.0)
    began = time.perf_counter()
    train_language(corpus, CONFIG, timed, torch.device("cpu"), out)
    assert 0.2 < measuring + time.perf_counter() - began < 8.0  # a machine with other work may slow down or speed up
    assert load_checkpoint(out)["description"]["training"]["steps"] == steps
    assert steps_within(2.0, corpus, CONFIG, training, torch.device("cpu"), out) == steps  # it is taken up as it was


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
