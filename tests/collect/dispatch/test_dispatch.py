"""Dispatch: all kinds agree where nothing is dropped, under every gate; drops follow the order of GShard."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_replay.collect.dispatch.capacity import CONVENTIONS, Capacity
from moe_replay.collect.dispatch.dispatch_names import DISPATCHES, build_dispatch
from moe_replay.collect.dispatch.dynamic_dispatch import dynamic_dispatch, gathered_dispatch
from moe_replay.collect.dispatch.static_dispatch import StaticDispatch
from moe_replay.collect.gates.gate_names import GATES, GateOptions, build_gate
from moe_replay.collect.models.classifier import Classifier
from moe_replay.collect.models.experts import Experts
from moe_replay.traces.errors import InputError

ROOMY = Capacity("CS", 1.0)  # every expert could take the whole batch


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def plain_sum(x_NM, weights_NK, experts_NK, experts):
    """The definition, token by token."""
    rows = []
    for x, weights, chosen in zip(x_NM, weights_NK, experts_NK, strict=True):
        parts = [w * experts.run(int(e), x[None])[0] for w, e in zip(weights, chosen, strict=True) if e >= 0]
        rows.append(sum(parts, start=torch.zeros(experts.outputs)))
    return torch.stack(rows)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("gate", GATES)
def test_all_dispatches_agree_under_every_gate_where_nothing_is_dropped(gate, training):
    x_NM = torch.randn(40, 12, generator=seeded())
    experts = Experts(6, 12, 10, 7, seeded(1))
    built = build_gate(gate, 12, 6, GateOptions(k=3, nulls=4), seeded(2)).train(training)
    torch.nn.init.normal_(next(iter(built.parameters()), torch.empty(0)), std=0.3, generator=seeded(3))
    with torch.no_grad():
        weights_NK, experts_NK, _ = built(x_NM, generator=seeded(4))
        expected = plain_sum(x_NM, weights_NK, experts_NK, experts)
        assert StaticDispatch(ROOMY).dropped(experts_NK, 6) == 0
        for dispatch in (StaticDispatch(ROOMY), dynamic_dispatch, gathered_dispatch):
            torch.testing.assert_close(dispatch(x_NM, weights_NK, experts_NK, experts), expected)
    if gate in ("top-p", "xmoe", "delta", "adamoe"):
        assert (experts_NK < 0).any()  # the case would prove little if every slot were used


@pytest.mark.parametrize("name", DISPATCHES)
def test_gradients_agree_and_training_gives_what_inference_gives(name):
    dispatch = build_dispatch(name, ROOMY if name == "static" else None)
    experts = Experts(4, 5, 6, 3, seeded(1))
    x_NM, weights_NK = torch.randn(9, 5, generator=seeded()), torch.rand(9, 2, generator=seeded(2))
    experts_NK = torch.stack([torch.randperm(4, generator=seeded(row))[:2] for row in range(9)])
    experts_NK[3] = torch.tensor([2, -1])
    weights_NK[3, 1] = 0

    def gradients(run):
        leaves = [x_NM.clone().requires_grad_(), weights_NK.clone().requires_grad_(), *experts.parameters()]
        output = run(leaves[0], leaves[1], experts_NK, experts)
        return output, torch.autograd.grad(output.square().sum(), leaves)

    output, found = gradients(dispatch)
    with torch.no_grad():
        torch.testing.assert_close(dispatch(x_NM, weights_NK, experts_NK, experts), output)
    for own, expected in zip(found, gradients(plain_sum)[1], strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


def test_no_expert_chosen_gives_zeros():
    experts = Experts(3, 5, 6, 4, seeded())
    nobody = torch.full((8, 2), -1)
    for dispatch in (StaticDispatch(ROOMY), dynamic_dispatch, gathered_dispatch):
        assert torch.equal(dispatch(torch.ones(8, 5), torch.zeros(8, 2), nobody, experts), torch.zeros(8, 4))


def test_first_choices_take_rows_before_second_ones_and_earlier_tokens_before_later():
    """Huang et al., figure 8: E = 3, S = 6, C = 0.5, so 3 rows. All want expert 0 second, tokens 0 and 4 first.

    Expert 0: first choices of tokens 0 and 4, then one row is left for the second choice of token 1 alone.
    """
    experts_NK = torch.tensor([[0, 1], [1, 0], [1, 0], [2, 0], [0, 2], [2, 0]])
    weights_NK = torch.tensor([[0.75, 0.25]]).repeat(6, 1)
    static = StaticDispatch(Capacity("CS", 0.5))
    assert static.slots(experts_NK, 3) == 3
    assert static.dropped(experts_NK, 3) == 3
    experts, x_NM = Experts(3, 4, 4, 4, seeded()), torch.randn(6, 4, generator=seeded(1))
    kept_NK = experts_NK.clone()
    kept_NK[[2, 3, 5], 1] = -1
    with torch.no_grad():
        found = static(x_NM, weights_NK, experts_NK, experts)
        expected = plain_sum(x_NM, weights_NK, kept_NK, experts)
    torch.testing.assert_close(found, expected)


def test_a_token_that_is_dropped_everywhere_leaves_only_the_residual(small_config, blobs):
    mean_F, deviation_F = (torch.from_numpy(values) for values in blobs.mean_and_deviation())
    model = Classifier(small_config, mean_F, deviation_F, 10, 0).eval()
    images_NF = torch.from_numpy(blobs.test_NF[:1]).repeat(5, 1)  # five equal rows, one free row each
    with torch.no_grad():
        logits_NC, _ = model(images_NF, 1, dispatch=StaticDispatch(Capacity("CS", 0.2)))
        residual_only = model.finish(model.embed(images_NF))
        whole, _ = model(images_NF, 1)
    torch.testing.assert_close(logits_NC[0], whole[0])
    torch.testing.assert_close(logits_NC[1:], residual_only[1:])


@given(
    st.integers(1, 30), st.integers(1, 9), st.integers(1, 4), st.sampled_from(sorted(CONVENTIONS)),
    st.sampled_from([0.05, 0.3, 1.0, 1.25, 2.4]), st.integers(0, 9),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_drops_are_what_the_plain_rule_drops(tokens, experts, k, convention, factor, seed):
    """Row by row as a person would do it; every expert computes exactly `slots` rows whatever was chosen."""
    k = min(k, experts)
    experts_NK = torch.rand(tokens, experts, generator=seeded(seed)).argsort(1)[:, :k]
    experts_NK[torch.rand(tokens, k, generator=seeded(seed + 1)) < 0.2] = -1
    static = StaticDispatch(Capacity(convention, factor))
    slots, free, dropped = static.slots(experts_NK, experts), {}, 0
    kept_NK = experts_NK.clone()
    for choice in range(k):
        for token in range(tokens):
            expert = int(experts_NK[token, choice])
            if expert < 0:
                continue
            free[expert] = free.get(expert, slots) - 1
            if free[expert] < 0:
                dropped += 1
                kept_NK[token, choice] = -1
    assert static.dropped(experts_NK, experts) == dropped
    layer, x_NM, weights_NK = Experts(experts, 3, 4, 2, seeded()), torch.ones(tokens, 3), torch.full((tokens, k), 0.5)
    with torch.no_grad():
        torch.testing.assert_close(
            static(x_NM, weights_NK, experts_NK, layer), dynamic_dispatch(x_NM, weights_NK, kept_NK, layer)
        )


@pytest.mark.parametrize(
    ("capacity", "tokens", "experts", "k", "slots"),
    [
        ("CS:0.5", 6, 3, 1, 3),  # Huang et al., figure 8
        ("CS:0.07", 100, 4, 2, 7),  # 0.07 * 100 is 7.000000000000001 in binary
        ("CS:0.05", 512, 512, 2, 26),  # 25.6
        ("CS/E:1.25", 512, 16, 2, 40),
        ("CS/E:1", 10, 64, 1, 1),  # at least one row
        ("CSk/E:1.2", 512, 16, 2, 77),  # 76.8; FastMoE's floor(ceil(614.4) * 2 / 16) gives 76
        ("CSk/E:2.4", 100, 10, 1, 24),
    ],
)
def test_rows_by_hand(capacity, tokens, experts, k, slots):
    assert Capacity.parse(capacity).slots(tokens, experts, k) == slots
    assert str(Capacity.parse(capacity)) == capacity


def test_waste_factors_of_the_two_published_models():
    """Huang et al., section 3: E C / k = 12.8 for the language model, 64 for the translation model."""
    assert Capacity("CS", 0.05).waste(512, 2) == pytest.approx(12.8, rel=1e-12)
    assert Capacity("CS", 1.0).waste(128, 2) == 64
    assert Capacity("CS/E", 1.5).waste(128, 2) == 0.75
    assert Capacity("CSk/E", 1.5).waste(128, 2) == 1.5


@given(st.sampled_from(sorted(CONVENTIONS)), st.fractions(Fraction(1, 100), 4), st.integers(1, 5000),
       st.integers(1, 600), st.integers(1, 8))  # fmt: skip
def test_rounding_adds_less_than_one_row_per_expert(convention, factor, tokens, experts, k):
    capacity = Capacity(convention, float(factor))
    wanted = capacity.waste(experts, k) * k * tokens / experts
    assert wanted <= capacity.slots(tokens, experts, k) * (1 + 1e-12)
    assert capacity.slots(tokens, experts, k) < max(wanted, 1) * (1 + 1e-12) + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Capacity("C*S", 1.0), "unknown capacity convention 'C.S'; known: CS, CS/E, CSk/E"),
        (lambda: Capacity("CS", 0.0), "capacity factor is 0.0, allowed > 0"),
        (lambda: Capacity("CS", float("nan")), "allowed > 0"),
        (lambda: Capacity("CS", float("inf")), "allowed > 0"),
        (lambda: Capacity.parse("CS"), "capacity 'CS': allowed CONVENTION:FACTOR"),
        (lambda: Capacity.parse("CS:-1"), "capacity factor is -1.0, allowed > 0"),
        (lambda: build_dispatch("lazy"), "unknown dispatch 'lazy'; known: dynamic, gathered, static"),
        (lambda: build_dispatch("static"), "dispatch static: needs a capacity"),
        (lambda: build_dispatch("dynamic", ROOMY), "dispatch dynamic: has no capacity"),
    ],
)
def test_bad_input_is_refused_in_one_line(make, message):
    with pytest.raises(InputError, match=message):
        make()
