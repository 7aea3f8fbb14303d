"""The classifier and its training: equals a plain loop, learns, resumes to the same bytes, refuses others' files."""

from dataclasses import replace

import pytest
import torch
from cut_off import CutOffError, cut_off_at

from moe_replay.collect.dispatch.dynamic_dispatch import dynamic_dispatch
from moe_replay.collect.models.classifier import CONFIGURATIONS, Classifier, ClassifierConfig
from moe_replay.collect.models.experts import Experts
from moe_replay.collect.training.classifier_training import TrainingConfig, evaluate, new_classifier, restore, train
from moe_replay.traces.errors import InputError

CPU = torch.device("cpu")


def test_experts_equal_a_loop_over_tokens():
    generator = torch.Generator().manual_seed(0)
    experts = Experts(5, 8, 12, 6, generator)
    x_NM = torch.randn(9, 8)
    weights_NK = torch.rand(9, 2)
    experts_NK = torch.stack([torch.randperm(5)[:2] for _ in range(9)])
    expected = torch.stack(
        [
            sum(
                weight * (torch.relu(x @ experts.w1_EMH[e] + experts.b1_EH[e]) @ experts.w2_EHO[e] + experts.b2_EO[e])
                for weight, e in zip(weights, chosen.tolist(), strict=True)
            )
            for x, weights, chosen in zip(x_NM, weights_NK, experts_NK, strict=True)
        ]
    )
    torch.testing.assert_close(dynamic_dispatch(x_NM, weights_NK, experts_NK, experts), expected, rtol=1e-4, atol=1e-5)


def test_one_layer_configuration_is_the_sum_of_weighted_experts():
    config = CONFIGURATIONS["one-layer"]
    model = Classifier(config, torch.zeros(3072), torch.ones(3072), 10, 0).eval()
    assert sum(parameter.numel() for parameter in model.experts.parameters()) == 10 * (3072 * 128 + 128 + 128 * 10 + 10)
    images_NF = torch.randint(0, 2, (3, 3072), dtype=torch.uint8)
    weights_NK, experts_NK, _ = model.gates[0](images_NF.float(), 4)
    expected = dynamic_dispatch(images_NF.float(), weights_NK, experts_NK, model.experts[0])
    torch.testing.assert_close(model(images_NF)[0], expected)


def test_training_learns_and_stays_balanced(blobs, small_config, tmp_path):
    model, description = train(blobs, small_config, TrainingConfig(epochs=8, batch=32), CPU, tmp_path / "m.pt")
    assert description["history"][-1]["test_accuracy"] > 0.9
    assert [entry["epoch"] for entry in description["history"]] == list(range(1, 9))
    test = torch.from_numpy(blobs.test_NF), torch.from_numpy(blobs.test_label_N)
    assert evaluate(model, *test, 2)[0] == description["history"][-1]["test_accuracy"]


def test_interrupted_training_resumes_to_the_same_bytes(blobs, small_config, tmp_path):
    training = TrainingConfig(epochs=3, batch=64)
    whole, _ = train(blobs, small_config, training, CPU, tmp_path / "whole.pt")
    with pytest.raises(CutOffError):
        train(blobs, small_config, training, CPU, tmp_path / "cut.pt", cut_off_at(2))
    with pytest.raises(InputError, match="2 of 3 epochs are done"):
        restore(tmp_path / "cut.pt")
    resumed, _ = train(blobs, small_config, training, CPU, tmp_path / "cut.pt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_restore_returns_the_trained_model(blobs, small_config, tmp_path):
    model, _ = train(blobs, small_config, TrainingConfig(epochs=1), CPU, tmp_path / "m.pt")
    again, description = restore(tmp_path / "m.pt", blobs)
    x = torch.from_numpy(blobs.test_NF)
    with torch.inference_mode():
        assert torch.equal(model(x)[0], again(x)[0])
    assert description["data"] == "blobs"


def test_checkpoints_of_others_are_refused_with_the_difference(blobs, small_config, tmp_path):
    path = tmp_path / "m.pt"
    train(blobs, small_config, TrainingConfig(epochs=1), CPU, path)
    with pytest.raises(InputError, match=r"model.experts is 6 there, 8 here"):
        train(blobs, replace(small_config, experts=8), TrainingConfig(epochs=1), CPU, path)
    with pytest.raises(InputError, match=r"training.seed is 0 there, 1 here"):
        train(blobs, small_config, TrainingConfig(epochs=1, seed=1), CPU, path)
    with pytest.raises(InputError, match="other images"):
        restore(path, blobs.first(100, None))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match="not a checkpoint"):
        restore(path)
    with pytest.raises(InputError, match="no such checkpoint"):
        restore(tmp_path / "absent.pt")


def test_k_beyond_the_experts_is_refused():
    with pytest.raises(InputError, match=r"k = 17, allowed 1\.\.16"):
        ClassifierConfig(k=17)


def test_seed_decides_the_initial_weights(blobs, small_config):
    first, same, other = (new_classifier(blobs, small_config, seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
