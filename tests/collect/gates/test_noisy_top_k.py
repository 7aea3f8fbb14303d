"""The gate against its formulas: selection, chance of being chosen, balance losses."""

import pytest
import torch

from moe_replay.collect.gates.gate_result import choose
from moe_replay.collect.gates.noisy_top_k import NoisyTopK, chosen_probability, cv_squared


def test_weights_are_the_softmax_over_the_chosen_alone():
    weights_NK, experts_NK = choose(torch.tensor([[1.0, 3.0, 2.0, -1.0]]), 2)
    assert experts_NK.tolist() == [[1, 2]]
    assert weights_NK[0].tolist() == pytest.approx([0.7310586, 0.2689414])


def test_zero_initialised_gate_starts_with_equal_scores():
    gate = NoisyTopK(8, 4, 0.1, 0.1)
    assert gate.logits(torch.randn(5, 8)).abs().max() == 0


def test_no_noise_outside_training():
    gate = NoisyTopK(8, 4, 0.1, 0.1).eval()
    torch.nn.init.normal_(gate.clean)
    x_NM = torch.randn(16, 8)
    first, second = gate(x_NM, 2), gate(x_NM, 2)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert float(first[2]) == 0


def test_chosen_probability_is_the_frequency_when_only_the_own_noise_is_drawn_again():
    generator = torch.Generator().manual_seed(3)
    clean = torch.randn(1, 6, generator=generator)
    deviation = torch.rand(1, 6, generator=generator) + 0.3
    noisy = clean + deviation * torch.randn(1, 6, generator=generator)
    expected = chosen_probability(clean, noisy, deviation, 2)[0]
    draws = 40_000
    for expert in range(6):
        again = noisy.repeat(draws, 1)
        again[:, expert] = clean[0, expert] + deviation[0, expert] * torch.randn(draws, generator=generator)
        frequency = (again.topk(2, dim=1).indices == expert).any(1).float().mean()
        half_width = 4 * (0.25 / draws) ** 0.5
        assert abs(frequency - expected[expert]) < half_width
    assert half_width < 0.15 * expected.max()


def test_importance_loss_is_zero_for_equal_and_grows_with_unequal_load():
    assert float(cv_squared(torch.full((8,), 3.0))) == pytest.approx(0)
    one_hot = torch.zeros(8)
    one_hot[0] = 5
    assert float(cv_squared(one_hot)) == pytest.approx(7, rel=1e-6)  # E - 1 with ddof 0


def test_balance_loss_reaches_both_matrices():
    gate = NoisyTopK(8, 4, 0.1, 0.1)
    torch.nn.init.normal_(gate.clean)
    _, _, loss = gate(torch.randn(32, 8), 2, torch.Generator().manual_seed(0))
    loss.backward()
    assert gate.clean.grad.abs().sum() > 0
    assert gate.noise.grad.abs().sum() > 0


def test_all_experts_chosen_leaves_only_the_importance_loss():
    gate = NoisyTopK(8, 4, 0.0, 1.0)
    _, _, loss = gate(torch.randn(32, 8), 4, torch.Generator().manual_seed(0))
    assert float(loss.detach()) == 0
