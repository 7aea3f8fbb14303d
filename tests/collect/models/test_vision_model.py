"""The vision transformer: sizes by closed form, variants that must agree, averaging, augmentation, bad sizes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from moe_replay.collect.models.expert_averaging import averaged, deployed
from moe_replay.collect.models.vision_transformer import VisionConfig, parameter_count
from moe_replay.collect.training.vision_training import augment, divergence_from, losses, new_vision_model
from moe_replay.traces.errors import InputError

SMALL = VisionConfig(width=16, hidden=24, depth=2, heads=2, patch=5)  # 4 patches of the blobs' 10x10 pixels


def built(blobs, variant="dense", experts=1, seed=0, **changes):
    return new_vision_model(blobs, replace(SMALL, variant=variant, experts=experts, **changes), seed).eval()


@pytest.fixture
def pixels(blobs):
    return torch.from_numpy(blobs.test_NF[:12].copy())


def size(width, hidden, depth, patches, features, classes, experts, routers):
    attention = 3 * width * (width + 1) + width * (width + 1)
    perceptron = width * hidden + hidden + hidden * width + width
    block = attention + 4 * width + experts * perceptron + routers * width
    return width * (features + 1) + patches * width + depth * block + 2 * width + classes * (width + 1)


@pytest.mark.parametrize(
    ("variant", "experts", "routers"),
    [("dense", 1, 0), ("switch", 6, 6), ("random", 6, 0), ("random-per-token", 3, 0)],
)
def test_parameters_by_closed_form(blobs, variant, experts, routers):
    expected = size(16, 24, 2, 4, 3 * 25, 10, experts, routers)
    assert parameter_count(built(blobs, variant, experts)) == expected


def test_averaged_has_the_layout_and_size_of_dense(blobs):
    dense, mean = built(blobs), averaged(built(blobs, "random", 5))
    assert type(mean) is type(dense)
    assert mean.config == dense.config
    assert parameter_count(mean) == parameter_count(dense)
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (dense, mean)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("variant", ["random", "random-per-token"])
def test_averaging_equal_experts_changes_nothing(blobs, pixels, variant):
    model = built(blobs, variant, 4)  # experts start as copies of one
    expected, _ = model(pixels, torch.Generator().manual_seed(3))
    torch.testing.assert_close(averaged(model)(pixels)[0], expected, rtol=1e-4, atol=1e-5)


def test_averaging_averages_weights_not_outputs(blobs):
    model = built(blobs, "random", 4, equal_start=False)
    experts, mean = model.blocks[1].feed_forward.experts, averaged(model).blocks[1].feed_forward.experts
    torch.testing.assert_close(mean.w1_EMH[0], sum(experts.w1_EMH) / 4)
    torch.testing.assert_close(mean.b2_EO[0], sum(experts.b2_EO) / 4)
    x_NM = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    of_outputs = sum(experts.run(e, x_NM) for e in range(4)) / 4
    assert (mean.run(0, x_NM) - of_outputs).abs().max() > 1e-3


def test_random_routing_runs_one_expert_per_layer_for_the_whole_pass(blobs, pixels):
    """Every pass equals the dense model of one of the E**depth choices of experts, and all of them occur."""
    model = built(blobs, "random", 2, equal_start=False)
    choices = {}
    for first in range(2):
        for second in range(2):
            one = averaged(model)
            for layer, expert in enumerate((first, second)):
                for name, stack in model.blocks[layer].feed_forward.experts.named_parameters():
                    getattr(one.blocks[layer].feed_forward.experts, name).data[0] = stack.data[expert]
            choices[first, second] = one(pixels)[0]
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(40):
        drawn = model(pixels, generator)[0]
        (match,) = [choice for choice, logits in choices.items() if torch.allclose(logits, drawn, atol=1e-5)]
        seen.add(match)
    assert seen == set(choices)


def test_switch_of_one_expert_is_the_dense_model(blobs, pixels):
    dense, switch = built(blobs), built(blobs, "switch", 1)
    routers = {name: tensor for name, tensor in switch.state_dict().items() if name.endswith("router")}
    switch.load_state_dict(dense.state_dict() | routers)
    torch.testing.assert_close(switch(pixels)[0], dense(pixels)[0], rtol=1e-4, atol=1e-5)
    _, loss = switch.train()(pixels, torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(SMALL.depth * SMALL.w_balance)  # its least value, 1, in every layer


def test_patches_are_read_row_by_row(blobs, pixels):
    model = built(blobs)
    patches_NPF = model.patches(pixels)
    image_NCHW = ((pixels.float() - model.mean_F) / model.deviation_F).view(-1, 3, 10, 10)
    torch.testing.assert_close(patches_NPF[:, 1].view(-1, 3, 5, 5), image_NCHW[:, :, :5, 5:])


def test_augment_moves_and_mirrors(pixels):
    image_NCHW = pixels.view(-1, 3, 10, 10).numpy()
    shift_N3 = torch.zeros(len(pixels), 3, dtype=torch.int64)
    assert torch.equal(augment(pixels, shift_N3, (3, 10, 10)), pixels)
    mirrored = augment(pixels, shift_N3 + torch.tensor([0, 0, 1]), (3, 10, 10)).view(-1, 3, 10, 10)
    assert np.array_equal(mirrored, image_NCHW[..., ::-1])
    moved = augment(pixels, shift_N3 + torch.tensor([2, -1, 0]), (3, 10, 10)).view(-1, 3, 10, 10).numpy()
    padded = np.pad(image_NCHW, ((0, 0), (0, 0), (2, 2), (1, 1)), mode="edge")
    assert np.array_equal(moved, padded[:, :, 0:10, 2:12])


def test_divergence_of_the_two_passes(blobs, pixels):
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log().requires_grad_()
    expected = 0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1)
    assert divergence_from(p, q).item() == pytest.approx(expected, rel=1e-5)
    divergence_from(q, p.clone().requires_grad_()).backward()
    assert q.grad is None
    labels = torch.zeros(12, dtype=torch.int64)
    alike = built(blobs, "random", 3)  # equal experts: both passes answer alike
    single = losses(alike, pixels, labels, False, torch.Generator().manual_seed(0))[0]
    both, extra = losses(alike, pixels, labels, True, torch.Generator().manual_seed(0))
    assert both.item() == pytest.approx(2 * single.item(), rel=1e-5)
    assert extra.item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"variant": "luck"}, "known: dense, random, random-per-token, switch"),
        ({"experts": 2}, "experts = 2 for variant dense, allowed 1"),
        ({"heads": 3}, "heads = 3, allowed: divisors of the width 16"),
        ({"depth": 0}, "depth = 0, allowed 1 and more"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        replace(SMALL, **changes)


def test_a_patch_that_does_not_divide_the_image_is_refused(blobs):
    with pytest.raises(InputError, match="patch = 3, allowed: divisors of the image's 10x10 pixels"):
        built(blobs, patch=3)


def test_only_random_routing_is_averaged(blobs):
    switch = built(blobs, "switch", 2)
    assert deployed(switch) is switch
    with pytest.raises(InputError, match="variant switch: allowed for averaging: random"):
        averaged(switch)
