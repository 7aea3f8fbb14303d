"""Re-gating: what a recorded trace would have selected under another rule for K, or at another fixed k.

Such a trace is *open loop*: in the run itself later layers would have seen other inputs, because other experts would
have worked on them. Only the first MoE layer is exact. `python -m analysis open-loop` measures the error.
"""

from dataclasses import replace

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.chunks import chunks, in_threads
from moe_replay.traces.header import Header
from moe_replay.traces.k_rules import KRule
from moe_replay.traces.selections import Trace

OPEN_LOOP = "open_loop"
NOT_PROBABILITIES = {
    None: "it has no scores",
    "selected": "its scores were normalised over the chosen experts, so those over all experts are not known",
    "sigmoid": "its scores are sigmoids, which are no probabilities over experts",
}


def regate(trace: Trace, rule: KRule | int, provenance: dict | None = None) -> Trace:
    """Return the trace that the recorded scores give under a rule for K, or at a fixed k.

    Experts that would not have run are empty slots; there are `rule.most` slots, or as many as the largest K, and
    `used_k` is their number. The header's notes say `k_rule` and `open_loop` (rule, source's digest and rule).
    Predictions are left out: they were the source's. InputError where the source does not hold what the rule needs.
    """
    if not trace.header.ranked:
        raise InputError(f"cannot be re-gated to {rule_text(rule)}: the trace is not ranked")
    cut = at_fixed_k(trace, rule) if isinstance(rule, int) else at_rule(trace, rule)
    return replace(cut, header=open_loop_header(trace, cut, rule, provenance), prediction_S=None)


def rule_of(trace: Trace) -> KRule | int:
    """Return the rule that a trace was recorded under, or re-gated to: a rule for K, else the fixed k."""
    text = trace.header.notes.get("k_rule")
    return KRule.parse(text) if text else trace.header.model.used_k


def rule_text(rule: KRule | int) -> str:
    """Return a rule in words: `delta:0.5`, `k=2`."""
    return f"k={rule}" if isinstance(rule, int) else str(rule)


def at_fixed_k(trace: Trace, k: int) -> Trace:
    """Return the first k slots; InputError where rows hold fewer."""
    cut = trace.at_k(k)
    short = int((cut.experts_TLK[:, :, -1] < 0).sum())
    if short:
        raise InputError(f"k is {k}, but {short} rows (token, layer) recorded fewer experts; allowed fewer, or a rule")
    return cut


def at_rule(trace: Trace, rule: KRule) -> Trace:
    """Return the experts that a rule chooses, with their softmax scores; the header is still the source's."""
    check_scores(trace, rule)
    runs = chunks(trace.T, trace.L)
    found = in_threads(lambda rows: counted(trace, rows, rule), runs)
    count_TL = np.concatenate([count_nL for count_nL, _ in found])
    short, experts = sum(each for _, each in found), trace.header.model.experts
    if short:
        raise InputError(
            f"{rule} may choose more experts than the trace recorded ({trace.K} of {experts} at most) in {short} rows "
            f"(token, layer); allowed a rule that needs fewer, or one with MOST, such as {replace(rule, most=trace.K)}"
        )
    slots = min(rule.most or int(count_TL.max()), trace.K)
    experts_TLK = np.full((trace.T, trace.L, slots), -1, np.int16)
    scores_TLK = np.zeros((trace.T, trace.L, slots), np.float32)
    for rows in runs:
        kept_nLK = np.arange(slots) < count_TL[rows, :, None]
        np.copyto(experts_TLK[rows], trace.experts_TLK[rows, :, :slots], where=kept_nLK)
        np.copyto(scores_TLK[rows], probabilities(trace, rows)[:, :, :slots], where=kept_nLK)
    header = replace(trace.header, score_kind="softmax")
    return replace(trace, header=header, experts_TLK=experts_TLK, scores_TLK=scores_TLK)


def check_scores(trace: Trace, rule: KRule) -> None:
    """Refuse a trace whose scores do not give the probabilities that a rule works on."""
    kind = trace.header.score_kind
    if kind in NOT_PROBABILITIES:
        raise InputError(f"cannot be re-gated to {rule}: {NOT_PROBABILITIES[kind]}; allowed softmax, or all logits")
    experts = trace.header.model.experts
    whole = experts == trace.K and bool((trace.experts_TLK[:, :, -1] >= 0).all())
    if not whole and (kind == "logit" or rule.name == "entropy"):
        needs = "a softmax of logits" if kind == "logit" else f"the rule {rule.name}"
        raise InputError(f"cannot be re-gated to {rule}: {needs} needs all {experts} experts, {trace.K} recorded")


def probabilities(trace: Trace, rows: slice) -> np.ndarray:
    """Return the softmax over all experts (n, L, K) of a run of tokens, in the recorded order."""
    scores_nLK = trace.scores_TLK[rows]
    if trace.header.score_kind == "softmax":
        return scores_nLK
    exponentials_nLK = np.exp(scores_nLK - scores_nLK[:, :, :1])
    return exponentials_nLK / exponentials_nLK.sum(-1, keepdims=True)


def counted(trace: Trace, rows: slice, rule: KRule) -> tuple[np.ndarray, int]:
    """Return (K of every row (n, L), rows that may want more experts than they recorded) of a run of tokens.

    What was not recorded has at most the last recorded probability. Rows are filled up with that: a K that reaches
    into the filling, at one place beyond all slots at the latest, is not known.
    """
    ranked_nLK, experts_nLK = probabilities(trace, rows), trace.experts_TLK[rows]
    recorded_nL = (experts_nLK >= 0).sum(-1, dtype=np.int16)
    experts = trace.header.model.experts
    if experts == trace.K and recorded_nL.min() == experts:
        return rule.count(ranked_nLK).astype(np.int16), 0
    last_nL1 = np.take_along_axis(ranked_nLK, np.maximum(recorded_nL - 1, 0)[..., None].astype(np.intp), -1)
    filled_nLK = np.where(experts_nLK >= 0, ranked_nLK, last_nL1)
    if experts > trace.K:
        filled_nLK = np.concatenate([filled_nLK, last_nL1], axis=-1)
    count_nL = rule.count(filled_nLK).astype(np.int16)
    return count_nL, int((count_nL > recorded_nL).sum())


def open_loop_header(trace: Trace, cut: Trace, rule: KRule | int, provenance: dict | None) -> Header:
    """Return the header of a re-gated trace."""
    header, fixed = cut.header, isinstance(rule, int)
    note = {"rule": rule_text(rule), "source_digest": trace.digest, "source_rule": rule_text(rule_of(trace))}
    return replace(
        header, model=replace(header.model, used_k=cut.K),
        notes={**header.notes, "k_rule": None if fixed else str(rule), OPEN_LOOP: note},
        provenance=header.provenance if provenance is None else provenance,
    )  # fmt: skip


def open_loop_row(notes: dict) -> dict[str, str]:
    """Return what `describe` says of a re-gated trace, nothing of any other."""
    note = notes.get(OPEN_LOOP)
    if not isinstance(note, dict):
        return {}
    source = f"a run under {note.get('source_rule')}, digest {note.get('source_digest')}"
    return {"open loop": f"re-gated to {note.get('rule')} from {source}; exact in the first layer only"}


def check_pair(source: Trace, recorded: Trace) -> None:
    """Refuse a trace recorded under a rule that does not belong to a source: other data, model or training."""
    pairs = {
        "data digest": (source.header.data["digest"], recorded.header.data["digest"]),
        "model": tuple(replace(trace.header.model, used_k=1) for trace in (source, recorded)),
        "training": (source.header.notes.get("training"), recorded.header.notes.get("training")),
        "trained k": (source.header.notes.get("trained_k"), recorded.header.notes.get("trained_k")),
        "number of tokens": (source.T, recorded.T),
    }
    for name, (one, other) in pairs.items():
        if one != other:
            raise InputError(f"is no partner of its source: {name} is {other}, the source's {one}")
    for name in ("sequence_T", "position_T"):
        if not np.array_equal(getattr(source, name), getattr(recorded, name)):
            raise InputError(f"is no partner of its source: {name} differs, so rows are not the same tokens")
    if OPEN_LOOP in recorded.header.notes:
        raise InputError("is re-gated itself: allowed a trace recorded under the rule")
