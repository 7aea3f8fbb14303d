"""Rules for K: closed forms, monotone in the threshold, the same in NumPy and torch, refused out of range."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moe_replay.traces.errors import InputError
from moe_replay.traces.k_rules import RULES, KRule, given_rule

POWERS = (1, 2, 4, 8, 64, 256)  # numbers of experts whose 1 / E, and every sum of it, is exact in binary


def ranked(rows, experts, seed, sharpness=1.0):
    """Probabilities in descending order, float32 as a router gives them."""
    logits = np.random.default_rng(seed).normal(size=(rows, experts)) * sharpness
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return -np.sort(-weights / weights.sum(1, keepdims=True), axis=1).astype(np.float32)


def thresholds(name):
    """A strategy for the allowed thresholds of a rule, ends included where they are."""
    kind = RULES[name]
    return st.floats(kind.lowest, min(kind.highest, 40), exclude_min=kind.open_low)


@pytest.mark.parametrize("name", RULES)
def test_k_is_monotone_in_the_threshold(name):
    @given(thresholds(name), thresholds(name), st.integers(1, 24), st.integers(0, 99), st.sampled_from([0.1, 1.0, 4.0]))
    def check(one, other, experts, seed, sharpness):
        p = ranked(8, experts, seed, sharpness)
        fewer, more = sorted([one, other], reverse=not RULES[name].rises)
        assert (KRule(name, fewer).count(p) <= KRule(name, more).count(p)).all()

    check()


@pytest.mark.parametrize("name", RULES)
def test_k_is_a_number_of_experts_and_most_caps_it(name):
    @given(thresholds(name), st.integers(1, 24), st.integers(1, 30), st.integers(0, 99))
    def check(threshold, experts, most, seed):
        p = ranked(8, experts, seed)
        free, capped = KRule(name, threshold).count(p), KRule(name, threshold, most).count(p)
        assert free.dtype.kind == "i"
        assert free.shape == (8,)
        assert ((free >= 1) & (free <= experts)).all()
        assert np.array_equal(capped, np.minimum(free, most))

    check()


@pytest.mark.parametrize("experts", POWERS)
@pytest.mark.parametrize("tau", [0.0, 0.1, 0.25, 0.4, 0.5, 0.75, 0.999, 1.0])
def test_uniform_probabilities(experts, tau):
    """Top-p includes the expert that crosses tau, floor(tau E) + 1; XMoE stops at it, ceil(tau E); both within 1..E."""
    p = np.full((3, experts), 1 / experts, np.float32)
    assert (KRule("top-p", tau).count(p) == min(math.floor(tau * experts) + 1, experts)).all()
    assert (KRule("xmoe", tau).count(p) == max(math.ceil(tau * experts), 1)).all()
    assert (KRule("gap", tau).count(p) == min(2, experts)).all()
    assert (KRule("delta", max(tau, 0.01)).count(p) == experts).all()
    for most in (1, 3, 8):
        assert (KRule("entropy", most).count(p) == (min(most, experts) if experts > 1 else 1)).all()


@pytest.mark.parametrize("rule", ["top-p:0", "top-p:0.999", "xmoe:0", "xmoe:1", "gap:0", "gap:0.999", "entropy:1",
                                  "entropy:32", "delta:1e-9", "delta:1"])  # fmt: skip
def test_one_certain_expert_is_enough(rule):
    one_hot = np.eye(1, 32, dtype=np.float32)
    assert KRule.parse(rule).count(one_hot).tolist() == [1]


def test_top_p_and_xmoe_differ_only_where_a_sum_equals_the_threshold():
    p = np.array([[0.5, 0.25, 0.125, 0.125]])
    assert [KRule(name, 0.75).count(p).item() for name in ("top-p", "xmoe")] == [3, 2]
    assert [KRule(name, 0.74).count(p).item() for name in ("top-p", "xmoe")] == [2, 2]

    @given(st.floats(0, 1), st.integers(0, 999))
    def check(tau, seed):
        p = ranked(20, 12, seed)
        sums = p.astype(np.float64).cumsum(1)
        same = KRule("top-p", tau).count(p) == KRule("xmoe", tau).count(p)
        assert (same | (sums == tau).any(1)).all()

    check()


def test_counts_by_hand():
    p = np.array([[0.6, 0.2, 0.15, 0.05], [0.3, 0.28, 0.22, 0.2]])
    by_hand = {
        "top-p:0.7": [2, 3], "xmoe:0.85": [3, 4], "gap:0.3": [1, 2], "gap:0.5": [2, 2], "delta:0.3": [2, 4],
        "delta:0.25": [3, 4], "delta:0.95": [1, 1], "top-p:0.99:2": [2, 2],
        "entropy:4": [3, 4],  # H / ln 4 = 0.767, 0.992
    }  # fmt: skip
    assert {rule: KRule.parse(rule).count(p).tolist() for rule in by_hand} == by_hand


@pytest.mark.parametrize("name", RULES)
def test_numpy_and_torch_count_alike(name):
    torch = pytest.importorskip("torch")
    kind = RULES[name]
    for seed, threshold in enumerate(np.linspace(kind.lowest, min(kind.highest, 6), 9)[1:]):
        p = ranked(500, 16, seed)
        rule = KRule(name, float(threshold))
        assert np.array_equal(rule.count(torch.from_numpy(p)).numpy(), rule.count(p))
    batched = ranked(6, 16, 0).reshape(2, 3, 16)
    assert rule.count(torch.from_numpy(batched)).tolist() == rule.count(batched).tolist()


@pytest.mark.parametrize(
    ("name", "threshold", "allowed"),
    [
        ("top-p", -0.01, r"top-p is -0.01, allowed 0\.\.1"),
        ("top-p", 1.01, r"top-p is 1.01, allowed 0\.\.1"),
        ("xmoe", 2.0, r"allowed 0\.\.1"),
        ("gap", float("nan"), r"gap is nan, allowed 0\.\.1"),
        ("entropy", 0.5, r"entropy is 0.5, allowed 1\.\.32767"),
        ("delta", 0.0, r"delta is 0.0, allowed above 0\.\.1"),
        ("delta", 1.5, r"allowed above 0\.\.1"),
    ],
)
def test_a_threshold_out_of_range_is_refused_with_the_range(name, threshold, allowed):
    with pytest.raises(InputError, match=allowed):
        KRule(name, threshold)
    with pytest.raises(InputError, match=allowed):
        KRule.parse(f"{name}:{threshold}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("luck:1", "unknown rule for K 'luck'; known: delta, entropy, gap, top-p, xmoe"),
        ("top-p", "rule 'top-p': allowed NAME:THRESHOLD or NAME:THRESHOLD:MOST"),
        ("top-p:much", "rule 'top-p:much': allowed NAME:THRESHOLD"),
        ("top-p:0.4:2.5", "rule 'top-p:0.4:2.5': allowed NAME:THRESHOLD"),
        ("top-p:0.4:2:9", "rule 'top-p:0.4:2:9': allowed NAME:THRESHOLD"),
        ("top-p:0.4:0", "most experts is 0, allowed >= 1"),
    ],
)
def test_a_rule_that_cannot_be_read_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        KRule.parse(text)


@given(st.sampled_from(sorted(RULES)), st.integers(1, 99), st.none() | st.integers(1, 64))
def test_a_rule_reads_as_it_is_written(name, percent, most):
    rule = KRule(name, percent / 100 if name != "entropy" else 1 + percent / 10, most)
    assert KRule.parse(str(rule)) == rule


def test_a_rule_or_a_number_but_not_both():
    assert given_rule(None, 3) == 3
    assert given_rule("delta:0.5:4", None) == KRule("delta", 0.5, 4)
    assert given_rule(None, None) is None
    with pytest.raises(InputError, match="--rule and --k: allowed one of them"):
        given_rule("delta:0.5", 3)
