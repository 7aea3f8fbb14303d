"""Every gate keeps one contract; then each against its own formulas: losses by hand, draws by their statistics."""

import math

import pytest
import torch
from scipy import stats

from moe_replay.collect.gates.adamoe import AdaMoE
from moe_replay.collect.gates.balance_losses import mean_entropy, switch_balance
from moe_replay.collect.gates.gate_names import GATES, GateOptions, build_gate
from moe_replay.collect.gates.gate_result import GivenCounts, choose
from moe_replay.collect.gates.gshard import GShardTop2
from moe_replay.collect.gates.random_gate import RandomRouting
from moe_replay.collect.gates.switch import Switch
from moe_replay.traces.errors import InputError
from moe_replay.traces.k_rules import RULES, KRule

ROWS, WIDTH, EXPERTS = 200, 12, 8
DRAWN = ("random", "random-per-token")  # no router: their draws go on outside training


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def inputs(rows=ROWS):
    return torch.randn(rows, WIDTH, generator=seeded(9))


def built(name, training, spread=0.3):
    """A gate whose router has learned something: the initial one of noisy top-k is zero."""
    gate = build_gate(name, WIDTH, EXPERTS, GateOptions(k=3, w_balance=0.02, w_size=0.01, nulls=5), seeded(1))
    for parameter in gate.parameters():
        torch.nn.init.normal_(parameter, std=spread, generator=seeded(2))
    return gate.train(training)


@pytest.mark.parametrize("spread", [0.0, 0.3, 30.0])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", GATES)
def test_every_selection_is_well_formed(name, training, spread):
    weights_NK, experts_NK, loss = built(name, training, spread)(inputs(), generator=seeded(3))
    assert weights_NK.shape == experts_NK.shape == (ROWS, experts_NK.shape[1])
    assert experts_NK.dtype == torch.int64
    assert experts_NK.min() >= -1
    assert experts_NK.max() < EXPERTS
    empty_NK = experts_NK < 0
    assert (empty_NK.int().diff(dim=1) >= 0).all()  # empty slots only behind the last expert
    assert (weights_NK[empty_NK] == 0).all()
    assert torch.isfinite(weights_NK).all()
    assert (weights_NK >= 0).all()
    assert (weights_NK.sum(1) <= 1 + 1e-5).all()
    assert ((weights_NK.diff(dim=1) <= 1e-7) | empty_NK[:, 1:]).all()  # best first
    distinct_NK = torch.where(empty_NK, EXPERTS + torch.arange(experts_NK.shape[1]), experts_NK)
    assert (distinct_NK.sort(1).values.diff(dim=1) > 0).all()
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert loss >= 0
    if not training:
        assert loss == 0


@pytest.mark.parametrize("name", GATES)
def test_at_least_one_expert_unless_null_experts_may_have_them_all(name):
    experts_NK = built(name, False)(inputs(), generator=seeded(3)).experts_NK
    assert (experts_NK[:, 0] >= 0).all() or name == "adamoe"


@pytest.mark.parametrize("name", GATES)
def test_outside_training_nothing_but_random_routing_draws(name):
    gate, generator = built(name, False), seeded(4)
    first, state = gate(inputs(), generator=generator), generator.get_state()
    second = gate(inputs(), generator=seeded(5))
    if name in DRAWN:
        assert not torch.equal(state, seeded(4).get_state())
        assert torch.equal(gate(inputs(), generator=seeded(4)).experts_NK, first.experts_NK)  # the seed says it all
    else:
        assert torch.equal(state, seeded(4).get_state())
        assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


@pytest.mark.parametrize("name", [name for name in GATES if name not in DRAWN])
def test_the_loss_reaches_the_router_and_so_do_the_weights(name):
    gate = built(name, True)
    selection = gate(inputs(), generator=seeded(3))
    for value in (selection.loss, (selection.weights_NK * torch.rand(selection.weights_NK.shape)).sum()):
        gradients = torch.autograd.grad(value, list(gate.parameters()), retain_graph=True, allow_unused=True)
        assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", [name for name in GATES if name not in (*DRAWN, "gshard", "adamoe", "noisy-top-k")])
def test_the_number_of_experts_can_be_given_from_outside(name):
    gate = built(name, False)
    counts = (
        gate(inputs(), k).experts_NK.ge(0).sum(1) for k in (2, KRule("delta", 0.5), GivenCounts(torch.full((ROWS,), 4)))
    )
    fixed, by_rule, given = counts
    assert (fixed == 2).all()
    assert (given == 4).all()
    ranked = gate.logits(inputs()).softmax(1).sort(1, descending=True).values
    assert torch.equal(by_rule, KRule("delta", 0.5).count(ranked))
    assert len(by_rule.unique()) > 2


@pytest.mark.parametrize("rule", ["top-p", "xmoe", "gap", "entropy", "delta"])
def test_dynamic_gates_follow_their_rule_and_its_weights(rule):
    gate = built(rule, False)
    weights_NK, experts_NK, _ = gate(inputs())
    probability_NE = gate.logits(inputs()).softmax(1)
    ranked_NE, order_NE = probability_NE.sort(dim=1, descending=True, stable=True)
    count_N = gate.rule.count(ranked_NE)
    assert torch.equal(experts_NK.ge(0).sum(1), count_N)
    assert experts_NK.shape[1] == count_N.max()
    for weights, experts, count, ranked, order in zip(
        weights_NK, experts_NK, count_N, ranked_NE, order_NE, strict=True
    ):
        assert torch.equal(experts[:count], order[:count])
        kept = ranked[:count]
        torch.testing.assert_close(weights[:count], kept / kept.sum() if RULES[rule].renormalised else kept)


def test_an_unknown_gate_lists_the_known_ones():
    with pytest.raises(InputError, match="unknown gate 'lottery'; known: adamoe, delta, entropy"):
        build_gate("lottery", WIDTH, EXPERTS, GateOptions(), seeded())


# Balance losses


def one_hot_probabilities(experts_N, experts):
    return torch.nn.functional.one_hot(experts_N, experts).float()


def test_balance_is_one_where_routing_is_even_and_E_where_one_expert_has_all():
    even = torch.arange(EXPERTS).repeat(5)
    assert float(switch_balance(one_hot_probabilities(even, EXPERTS), even[:, None])) == pytest.approx(1)
    alone = torch.zeros(40, dtype=torch.int64)
    assert float(switch_balance(one_hot_probabilities(alone, EXPERTS), alone[:, None])) == pytest.approx(EXPERTS)


def test_balance_of_sure_routing_is_never_below_its_minimum_of_one():
    """With f = P the sum is E * sum f^2 >= 1 (Cauchy-Schwarz); for soft top-1 P >= f / E, so at least sum f^2."""
    for seed in range(50):
        experts_N = torch.randint(EXPERTS, (30,), generator=seeded(seed))
        assert switch_balance(one_hot_probabilities(experts_N, EXPERTS), experts_N[:, None]) >= 1 - 1e-6
        probability_NE = torch.randn(30, EXPERTS, generator=seeded(seed)).softmax(1)
        best_N = probability_NE.argmax(1)
        share_E = torch.bincount(best_N, minlength=EXPERTS) / 30
        assert switch_balance(probability_NE, best_N[:, None]) >= (share_E**2).sum() >= 1 / EXPERTS


def test_empty_slots_do_not_count_as_load():
    probability_NE = torch.tensor([[0.75, 0.25], [0.25, 0.75]])
    with_empty = switch_balance(probability_NE, torch.tensor([[0, 1], [1, -1]]))
    assert float(with_empty) == pytest.approx(2 * (1 / 3 * 0.5 + 2 / 3 * 0.5))


def test_switch_loss_is_alpha_where_the_router_is_uniform():
    gate = Switch(WIDTH, EXPERTS, 0.03, seeded()).train()
    torch.nn.init.zeros_(gate.router)
    selection = gate(inputs(), generator=seeded())
    assert float(selection.loss.detach()) == pytest.approx(0.03)
    torch.testing.assert_close(selection.weights_NK, torch.full((ROWS, 1), 1 / EXPERTS))


def test_switch_jitters_its_input_in_training_alone():
    gate = built("switch", True)
    first, second = (gate(inputs(), generator=seeded(seed)).weights_NK for seed in (1, 2))
    assert not torch.equal(first, second)
    torch.testing.assert_close(first, second, rtol=0.2, atol=0.05)  # factors of 0.99 to 1.01


def test_entropy_of_uniform_rows_is_ln_E_and_of_certain_rows_zero():
    assert float(mean_entropy(torch.full((3, EXPERTS), 1 / EXPERTS))) == pytest.approx(math.log(EXPERTS))
    assert float(mean_entropy(torch.eye(EXPERTS))) == 0


# GShard


def gshard_with(second_share, experts=4):
    """A gate that gives every row of ones the weights (1 - g2, g2) on experts 2 and 0."""
    gate = GShardTop2(1, experts, 0.01, seeded()).train()
    with torch.no_grad():
        gate.router.fill_(-30.0)
        gate.router[0, 2], gate.router[0, 0] = math.log(1 - second_share), math.log(second_share)
    return gate


@pytest.mark.parametrize("second_share", [0.05, 0.2, 0.25, 0.4])
def test_gshard_keeps_the_second_choice_with_probability_two_g2(second_share):
    rows = 40_000
    weights_N2, experts_N2, _ = gshard_with(second_share)(torch.ones(rows, 1), generator=seeded(6))
    kept_N = experts_N2[:, 1] >= 0
    expected = 2 * second_share
    half_width = 4 * (expected * (1 - expected) / rows) ** 0.5
    assert abs(kept_N.float().mean() - expected) < half_width
    assert half_width < 0.011  # wide enough for chance, too narrow for g2 or 4 g2
    assert (experts_N2[:, 0] == 2).all()
    torch.testing.assert_close(weights_N2[kept_N].mean(0), torch.tensor([1 - second_share, second_share]))
    torch.testing.assert_close(weights_N2[:, 0], torch.full((rows,), 1 - second_share))  # kept or not


def test_gshard_always_keeps_equal_choices_and_everything_outside_training():
    assert (gshard_with(0.5)(torch.ones(5000, 1), generator=seeded(7)).experts_NK >= 0).all()
    assert (gshard_with(0.05).eval()(torch.ones(50, 1)).experts_NK >= 0).all()


def test_gshard_loss_counts_first_choices_alone():
    """All first choices on one of four experts, P = (0.25, 0, 0.75, 0): 0.01 * 4 * 0.75."""
    loss = gshard_with(0.25)(torch.ones(30, 1), generator=seeded()).loss
    assert float(loss.detach()) == pytest.approx(0.01 * 4 * 0.75, rel=1e-5)


def test_gshard_needs_two_experts():
    with pytest.raises(InputError, match="gshard: experts is 1, allowed >= 2"):
        build_gate("gshard", WIDTH, 1, GateOptions(), seeded())


# Random routing


@pytest.mark.parametrize("per_token", [False, True])
def test_random_routing_is_uniform_and_draws_once_per_pass_or_once_per_token(per_token):
    """Chi-square over 8,000 draws; one expert a fifth more likely than the rest would give about 50, allowed 24."""
    gate, generator, draws = RandomRouting(EXPERTS, per_token), seeded(8), 8000
    rows = draws if per_token else 3
    passes = [gate(torch.ones(rows, 1), generator=generator) for _ in range(1 if per_token else draws)]
    experts_PN = torch.stack([selection.experts_NK[:, 0] for selection in passes])
    if not per_token:
        assert (experts_PN == experts_PN[:, :1]).all()  # one expert for the whole pass
        experts_PN = experts_PN[:, :1]
    counts = torch.bincount(experts_PN.flatten(), minlength=EXPERTS).numpy()
    assert stats.chisquare(counts).statistic < stats.chi2.ppf(0.999, EXPERTS - 1)
    assert all((selection.weights_NK == 1).all() for selection in passes)


def test_successive_passes_are_independent():
    """Pairs of successive draws are uniform over all pairs."""
    gate, generator = RandomRouting(4), seeded(11)
    drawn = [int(gate(torch.ones(2, 1), generator=generator).experts_NK[0, 0]) for _ in range(8000)]
    pairs = torch.bincount(torch.tensor(drawn[::2]) * 4 + torch.tensor(drawn[1::2]), minlength=16).numpy()
    assert stats.chisquare(pairs).statistic < stats.chi2.ppf(0.999, 15)


# AdaMoE


def adamoe_with(probabilities, k, nulls, alpha=1.0):
    """A gate that gives every row of ones these probabilities over real experts, then null ones."""
    gate = AdaMoE(1, len(probabilities) - nulls, k, nulls, alpha, seeded()).train()
    with torch.no_grad():
        gate.router.copy_(torch.tensor([probabilities]).log())
    return gate


def test_adamoe_renormalises_over_the_real_experts_among_the_best():
    """Of the best three (null .4, expert 1 .3, expert 0 .15) two are real: weights 2/3 and 1/3, one slot empty."""
    weights_NK, experts_NK, _ = adamoe_with([0.15, 0.3, 0.05, 0.4, 0.1], 3, 2)(torch.ones(4, 1))
    assert experts_NK.tolist() == [[1, 0, -1]] * 4
    torch.testing.assert_close(weights_NK, torch.tensor([[2 / 3, 1 / 3, 0.0]]).repeat(4, 1))


def test_adamoe_gives_no_expert_where_all_the_best_are_null():
    weights_NK, experts_NK, _ = adamoe_with([0.05, 0.15, 0.5, 0.3], 2, 2)(torch.ones(3, 1))
    assert experts_NK.tolist() == [[-1, -1]] * 3
    assert weights_NK.tolist() == [[0.0, 0.0]] * 3


def test_adamoe_balance_by_hand():
    """E = 3, 2 nulls, k = 3: f = 1/3 each for columns 3, 1, 0. P = (.15, .3, .05), nulls evened to .25 each.

    5 * 1/3 * (.25 + .3 + .15) = 7/6; a null counts with the nulls' mean, whichever of them was chosen.
    """
    probabilities = [0.15, 0.3, 0.05, 0.4, 0.1]
    loss = adamoe_with(probabilities, 3, 2, alpha=0.5)(torch.ones(4, 1)).loss
    assert float(loss.detach()) == pytest.approx(0.5 * 7 / 6)
    swapped = [0.15, 0.3, 0.05, 0.1, 0.4]
    assert float(adamoe_with(swapped, 3, 2, alpha=0.5)(torch.ones(4, 1)).loss.detach()) == pytest.approx(0.5 * 7 / 6)


def test_adamoe_outside_the_nulls_is_plain_top_k():
    gate = AdaMoE(WIDTH, EXPERTS, 3, 2, 0.01, seeded()).eval()
    with torch.no_grad():
        gate.router[:, EXPERTS:] = 0
        real = gate.router[:, :EXPERTS].clone()
        x_NM = inputs().abs() + 1
        gate.router[:, :EXPERTS] = real.abs() + 1  # every real expert beats every null one
        weights_NK, experts_NK, _ = gate(x_NM)
        expected = choose(gate.logits(x_NM), 3)
    assert torch.equal(experts_NK, expected[1])
    torch.testing.assert_close(weights_NK, expected[0])
