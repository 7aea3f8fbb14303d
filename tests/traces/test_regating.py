"""Re-gating: a recorded trace under another rule for K, by hand, against a plain loop, and where it is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_traces import assert_same, random_trace, tiny, tiny_header

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.k_rules import RULES, KRule
from moe_replay.traces.regating import check_pair, regate, rule_of

ROOT = Path(__file__).resolve().parents[2]
RULE_TEXTS = ("top-p:0.6", "xmoe:0.6", "gap:0.1", "entropy:6", "delta:0.5", "delta:0.2:3")


def whole_trace(rng, tokens=50, layers=3, experts=8, used_k=4, **header):
    """A trace with all experts recorded, ranked by a softmax."""
    logits = rng.normal(0, 1.5, (tokens, layers, experts)).astype(np.float32)
    order = np.argsort(-logits, axis=-1)
    scores = np.exp(np.take_along_axis(logits, order, -1))
    scores /= scores.sum(-1, keepdims=True)
    base = random_trace(rng, tokens, layers, experts, experts)
    model = replace(base.header.model, used_k=used_k)
    return replace(
        base, header=replace(base.header, model=model, **header), experts_TLK=order.astype(np.int16), scores_TLK=scores
    )


def test_every_rule_has_a_text_here():
    assert {KRule.parse(text).name for text in RULE_TEXTS} == set(RULES)


@pytest.mark.parametrize("text", RULE_TEXTS)
def test_rows_hold_what_the_rule_counts_one_by_one(rng, text):
    trace, rule = whole_trace(rng), KRule.parse(text)
    made = regate(trace, rule)
    counts = np.zeros((trace.T, trace.L), int)
    for token in range(trace.T):
        for layer in range(trace.L):
            count = counts[token, layer] = rule.count(trace.scores_TLK[token, layer])
            assert made.experts_TLK[token, layer, :count].tolist() == trace.experts_TLK[token, layer, :count].tolist()
            assert (made.experts_TLK[token, layer, count:] == -1).all()
            assert made.scores_TLK[token, layer, :count].tolist() == trace.scores_TLK[token, layer, :count].tolist()
    assert made.K == made.header.model.used_k == (rule.most or counts.max())
    assert len(np.unique(counts)) > 1
    assert np.array_equal(made.sequence_T, trace.sequence_T)


def test_the_header_says_open_loop_and_whose_it_was(rng):
    trace = whole_trace(rng)
    made = regate(trace, KRule("top-p", 0.5), {"command": "test"})
    assert made.header.notes["open_loop"] == {
        "rule": "top-p:0.5", "source_digest": trace.digest, "source_rule": "k=4",
    }  # fmt: skip
    assert made.header.gate_rule == trace.header.gate_rule  # how weights are formed is the gate's affair
    assert made.header.provenance == {"command": "test"}
    assert rule_of(made) == KRule("top-p", 0.5)
    assert rule_of(trace) == 4
    assert made.prediction_S is None  # what the source predicted is no outcome of this rule
    assert np.array_equal(made.label_S, trace.label_S)


def test_a_fixed_k_is_the_first_k_slots_and_needs_no_scores(rng):
    trace = whole_trace(rng)
    made = regate(replace(trace, scores_TLK=None, header=replace(trace.header, score_kind=None)), 2)
    assert np.array_equal(made.experts_TLK, trace.experts_TLK[:, :, :2])
    assert made.header.model.used_k == rule_of(made) == 2
    assert made.header.gate_rule == trace.header.gate_rule


def test_a_larger_delta_leaves_a_prefix(rng):
    trace = whole_trace(rng)
    loose, tight = regate(trace, KRule("delta", 0.1)), regate(trace, KRule("delta", 0.4))
    kept = tight.experts_TLK >= 0
    assert np.array_equal(loose.experts_TLK[:, :, : tight.K][kept], tight.experts_TLK[kept])
    assert (loose.experts_TLK >= 0).sum() > kept.sum()


def test_logits_of_all_experts_give_the_same_as_their_softmax(rng):
    trace = whole_trace(rng)
    logits = replace(
        trace, scores_TLK=np.log(trace.scores_TLK) + np.float32(3), header=replace(trace.header, score_kind="logit")
    )
    for text in ("top-p:0.6", "delta:0.5", "entropy:6"):
        one, other = regate(trace, KRule.parse(text)), regate(logits, KRule.parse(text))
        assert np.array_equal(one.experts_TLK, other.experts_TLK)
        assert other.header.score_kind == "softmax"
        np.testing.assert_allclose(other.scores_TLK, one.scores_TLK, rtol=1e-4)


@pytest.mark.parametrize("text", [text for text in RULE_TEXTS if "entropy" not in text])
def test_few_recorded_candidates_are_enough_exactly_where_the_rule_needs_no_more(rng, text):
    """The full trace knows the answer: a cut one either gives it or refuses, and refuses only what it cannot know."""
    rule, outcomes = KRule.parse(text), set()
    whole = whole_trace(rng, tokens=60, layers=1)
    for token in range(whole.T):
        trace = whole.rows(token, token + 1)
        most = int((regate(trace, rule).experts_TLK >= 0).sum(-1).max())
        for slots in (1, 2, 3, 5):
            if most < slots or rule.most == slots:
                made = regate(trace.at_k(slots), rule)
                assert np.array_equal(made.experts_TLK[:, :, :most], trace.experts_TLK[:, :, :most])
                assert (made.experts_TLK >= 0).sum() == most
                outcomes.add("made")
            elif most > slots:
                with pytest.raises(InputError, match="may choose more experts than the trace recorded"):
                    regate(trace.at_k(slots), rule)
                outcomes.add("refused")
    assert outcomes == {"refused", "made"}


def test_rows_that_a_rule_cut_short_are_not_taken_for_whole():
    scores = np.array([[[0.5, 0.25]] * 2, [[0.5, 0.5], [0.75, 0]], [[0.5, 0.25]] * 2], np.float32)
    trace = tiny(scores_TLK=scores)
    assert (regate(trace, KRule("top-p", 0.4)).experts_TLK >= 0).sum() == 6
    with pytest.raises(InputError, match=r"\(2 of 4 at most\) in 5 rows .* such as top-p:0.75:2"):
        regate(trace, KRule("top-p", 0.75))  # all but the row [0.5, 0.5], which ends there
    with pytest.raises(InputError, match="k is 2, but 1 rows"):
        regate(trace, 2)


@pytest.mark.parametrize(
    ("header", "rule", "says"),
    [
        ({"score_kind": None}, KRule("delta", 0.5), "it has no scores"),
        ({"score_kind": "selected"}, KRule("delta", 0.5), "normalised over the chosen experts"),
        ({"score_kind": "sigmoid"}, KRule("delta", 0.5), "no probabilities"),
        ({"score_kind": "logit"}, KRule("delta", 0.5), "a softmax of logits needs all 4 experts, 2 recorded"),
        ({}, KRule("entropy", 3), "the rule entropy needs all 4 experts, 2 recorded"),
        ({"ranked": False}, KRule("delta", 0.5), "not ranked"),
        ({"ranked": False}, 1, "not ranked"),
        ({}, 3, "k is 3, allowed 1..2"),
    ],
)
def test_what_the_trace_does_not_hold_is_refused(header, rule, says):
    changes = {"scores_TLK": None} if header.get("score_kind", "") is None else {}
    with pytest.raises(InputError, match=says):
        regate(tiny(header=tiny_header(**header), **changes), rule)


def test_a_partner_has_the_same_data_model_training_and_tokens(rng):
    source = whole_trace(rng, notes={"training": {"seed": 0}, "trained_k": 4})
    other = source.at_k(2)
    check_pair(source, replace(other, header=replace(other.header, model=replace(other.header.model, used_k=2))))
    header = source.header
    for name, changed in {
        "data digest": replace(source, header=replace(header, data={**header.data, "digest": "x"})),
        "model": replace(source, header=replace(header, model=replace(header.model, d_ff=3))),
        "training": replace(source, header=replace(header, notes={"training": {"seed": 1}, "trained_k": 4})),
        "trained k": replace(source, header=replace(header, notes={"training": {"seed": 0}, "trained_k": 2})),
        "number of tokens": source.rows(0, source.T - 1),
        "re-gated itself": regate(source, KRule("delta", 0.5)),
    }.items():
        with pytest.raises(InputError, match=name):
            check_pair(source, changed)


@pytest.fixture
def traces(traces, monkeypatch):
    """The function that runs `python -m traces WORDS`, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    return traces


def test_the_command_writes_what_the_function_makes(traces, rng):
    trace = whole_trace(rng)
    save_trace(trace, "a.trace.parquet")
    status, printed, errors = traces("regate a.trace.parquet --rule delta:0.5 --out b.trace.parquet")
    assert (status, errors) == (0, "")
    assert printed.startswith("b.trace.parquet: delta:0.5, open loop, ")
    found = load_trace("b.trace.parquet")
    assert_same(found, regate(trace, KRule("delta", 0.5), found.header.provenance))
    assert found.header.provenance["command"].startswith("python -m traces regate a.trace.parquet --rule delta:0.5")
    shown = " ".join(traces("describe b.trace.parquet")[1].split())
    assert f"open loop re-gated to delta:0.5 from a run under k=4, digest {trace.digest}" in shown
    assert "open loop" not in traces("describe a.trace.parquet")[1]
    assert traces("regate a.trace.parquet --k 2 --out c.trace.parquet")[0] == 0
    assert load_trace("c.trace.parquet").K == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("regate a --rule detla:0.5 --out x", "unknown rule for K 'detla'; known: delta, entropy"),
        ("regate a --rule delta:1.5 --out x", "threshold of delta is 1.5, allowed above 0..1"),
        ("regate a --rule delta --out x", "allowed NAME:THRESHOLD"),
        ("regate a --out x", "--rule or --k: one of them is needed"),
        ("regate a --rule delta:0.5 --k 2 --out x", "--rule and --k: allowed one of them"),
        ("regate a --rule delta:0.1 --out x", "a: delta:0.1 may choose more experts than the trace recorded (2 of 4"),
        ("regate bare --rule delta:0.5 --out x", "bare: cannot be re-gated to delta:0.5: it has no scores"),
        ("regate a --k 9 --out x", "a: k is 9, allowed 1..2"),
        ("regate text --rule delta:0.5 --out x", "text: "),
        ("regate absent --rule delta:0.5 --out x", "absent: no such file"),
    ],
)
def test_bad_input_is_one_line_and_status_2(traces, words, says):
    save_trace(tiny(), "a")
    save_trace(tiny(header=tiny_header(score_kind=None), scores_TLK=None), "bare")
    Path("text").write_text("not a trace")
    status, printed, errors = traces(words)
    assert (status, printed, errors.count("\n")) == (2, "", 1)
    assert says in errors
    assert not Path("x").exists()
