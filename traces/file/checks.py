"""What a trace may hold: every rule as a function from arrays to a mask of the entries that break it.

The first broken rule is reported in one line: row, column, value, what is allowed, how many such entries.
Rules on selections run over short runs of tokens, so that checking takes a few megabytes whatever the trace's size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.chunks import chunks, in_threads

if TYPE_CHECKING:
    from moe_replay.traces.header import Header

LARGEST_SOFTMAX_SUM = 1.01  # leaves room for bfloat16; scores of another kind sum to more almost everywhere
PAIRWISE_K = 24  # up to here comparing every pair of slots beats sorting the row (measured)
LOWEST = {"label_S": -1, "prediction_S": -1}  # -1: unknown
HIGHEST = {"phase_T": 1}


class Recorded(Protocol):
    """What the rules read of a trace: its sizes, its header and its fields, None where one was not recorded."""

    T: int
    L: int
    header: Header
    experts_TLK: np.ndarray
    scores_TLK: np.ndarray | None
    sequence_T: np.ndarray
    position_T: np.ndarray
    step_T: np.ndarray
    norm_TL: np.ndarray | None
    sequences_S: np.ndarray
    domain_S: np.ndarray | None


@dataclass(frozen=True)
class Selections:
    """A run of n tokens: `experts_nLK`, `scores_nLK` (or None) and the header that gives them meaning."""

    experts_nLK: np.ndarray
    scores_nLK: np.ndarray | None
    header: Header

    @cached_property
    def empty_nLK(self) -> np.ndarray:
        """Which slots are empty."""
        return self.experts_nLK == -1

    @cached_property
    def has_empty(self) -> bool:
        """Whether any slot is empty; most traces have none, and their rules are cheaper."""
        return bool(self.empty_nLK.any())


def outside(run: Selections) -> np.ndarray:
    """Mark ids that are neither an expert nor an empty slot."""
    return (run.experts_nLK < -1) | (run.experts_nLK >= run.header.model.experts)


def after_empty(run: Selections) -> np.ndarray:
    """Mark experts that follow an empty slot; filled from the front, the first k of a row are a prefix."""
    marked_nLK = np.zeros(run.experts_nLK.shape, bool)
    if run.has_empty:
        marked_nLK[..., 1:] = run.empty_nLK[..., :-1] & ~run.empty_nLK[..., 1:]
    return marked_nLK


def repeated(run: Selections) -> np.ndarray:
    """Mark rows (n, L) that name an expert twice."""
    n, layers, slots = run.experts_nLK.shape
    if slots > PAIRWISE_K:
        sorted_nLK = np.sort(run.experts_nLK, axis=-1)
        return ((sorted_nLK[..., 1:] == sorted_nLK[..., :-1]) & (sorted_nLK[..., 1:] != -1)).any(-1)
    columns_KR = np.ascontiguousarray(run.experts_nLK.reshape(-1, slots).T)
    marked_R = np.zeros(n * layers, bool)
    for slot in range(slots - 1):
        same_R = (columns_KR[slot + 1 :] == columns_KR[slot]).any(0)
        marked_R |= same_R & (columns_KR[slot] != -1) if run.has_empty else same_R
    return marked_R.reshape(n, layers)


def score_range(header: Header) -> tuple[float, float]:
    """Return the lowest and highest score of the header's kind."""
    largest = float(np.finfo(np.float32).max)
    return (-largest, largest) if header.score_kind == "logit" else (0.0, 1.0)


def bad_score(run: Selections) -> np.ndarray:
    """Mark scores that are not finite or outside the range of their kind."""
    low, high = score_range(run.header)
    return ~((run.scores_nLK >= np.float32(low)) & (run.scores_nLK <= np.float32(high)))


def scored_empty(run: Selections) -> np.ndarray:
    """Mark empty slots with a score: a fixed zero there keeps one trace from having many digests."""
    return run.empty_nLK & (run.scores_nLK != 0)


def rising(run: Selections) -> np.ndarray:
    """Mark scores above the one before them in a ranked trace; where the chosen are first, behind them."""
    flat = run.scores_nLK.reshape(-1)
    marked = np.zeros(flat.shape, bool)
    if run.header.ranked or run.header.chosen_first:
        np.greater(flat[1:], flat[:-1], out=marked[1:])
        marked[:: run.scores_nLK.shape[-1]] = False
    marked_nLK = marked.reshape(run.scores_nLK.shape)
    if run.header.chosen_first:
        marked_nLK[..., : run.header.model.used_k + 1] = False
    return marked_nLK & ~run.empty_nLK if run.has_empty else marked_nLK


def heavy(run: Selections) -> np.ndarray:
    """Mark rows (n, L) whose softmax scores sum to more than one."""
    slots = run.scores_nLK.shape[-1]
    if run.header.score_kind != "softmax":
        return np.zeros(run.scores_nLK.shape[:2], bool)
    sums_R = np.ascontiguousarray(run.scores_nLK.reshape(-1, slots).T).sum(0)
    return (sums_R > LARGEST_SOFTMAX_SUM).reshape(run.scores_nLK.shape[:2])


EXPERT_RULES = (outside, after_empty, repeated)
SCORE_RULES = (bad_score, scored_empty, rising, heavy)


def broken_rules(run: Selections) -> list[tuple[int, tuple[int, ...], int]]:
    """Return (rule number, first marked entry, marked entries) of every rule that a run breaks."""
    rules = EXPERT_RULES + (SCORE_RULES if run.scores_nLK is not None else ())
    found = []
    for number, rule in enumerate(rules):
        marked = rule(run)
        if count := int(np.count_nonzero(marked)):
            first = np.unravel_index(int(marked.argmax()), marked.shape)
            found.append((number, tuple(map(int, first)), count))
    return found


def selection_message(rule: object, run: Selections, entry: tuple[int, ...]) -> str:
    """Return what is wrong at an entry (token, layer[, slot]) of a run, and what is allowed."""
    experts_K = run.experts_nLK[entry[0], entry[1]]
    scores_K = run.scores_nLK[entry[0], entry[1]] if run.scores_nLK is not None else None
    slot = entry[2] if len(entry) == 3 else 0
    low, high = score_range(run.header)
    allowed_scores = "finite numbers" if run.header.score_kind == "logit" else f"{low:g}..{high:g}"
    last = run.header.model.experts - 1
    return {
        outside: lambda: f"expert_{slot} is {experts_K[slot]}, allowed 0..{last}, or -1 if empty",
        after_empty: lambda: f"expert_{slot} is {experts_K[slot]} after an empty slot, allowed -1",
        repeated: lambda: f"experts are {experts_K.tolist()}, allowed: each at most once",
        bad_score: lambda: f"score_{slot} is {scores_K[slot]:g}, allowed {allowed_scores} ({run.header.score_kind})",
        scored_empty: lambda: f"score_{slot} is {scores_K[slot]:g} in an empty slot, allowed 0",
        rising: lambda: f"score_{slot} is {scores_K[slot]:g}, allowed at most {scores_K[slot - 1]:g} as before it",
        heavy: lambda: f"softmax scores sum to {scores_K.sum():g}, allowed at most {LARGEST_SOFTMAX_SUM}",
    }[rule]()


def check_selections(trace: Recorded) -> None:
    """Refuse experts or scores that break a rule; the message counts every such entry of the trace."""

    def run_of(rows: slice) -> Selections:
        scores = trace.scores_TLK[rows] if trace.scores_TLK is not None else None
        return Selections(trace.experts_TLK[rows], scores, trace.header)

    runs = chunks(trace.T, trace.L)
    found = [
        (number, index, entry, count)
        for index, broken in enumerate(in_threads(lambda rows: broken_rules(run_of(rows)), runs))
        for number, entry, count in broken
    ]
    if found:
        number, index, entry, _ = min(found)
        total = sum(count for other, _, _, count in found if other == number)
        message = selection_message((EXPERT_RULES + SCORE_RULES)[number], run_of(runs[index]), entry)
        raise InputError(f"row {runs[index].start + entry[0]}, layer {entry[1]}: {message} ({such(total)})")


def such(count: int) -> str:
    """Return `1 such row` or `n such rows`."""
    return f"{count} such row{'s' if count > 1 else ''}"


def refuse(marked: np.ndarray, place: str, message: Callable[[int], str], ids: np.ndarray | None = None) -> None:
    """Raise for the first marked entry i: `PLACE i: message(i) (n such rows)`; where there are ids, ids[i] for i."""
    if count := int(np.count_nonzero(marked)):
        first = int(marked.argmax())
        raise InputError(f"{place} {first if ids is None else ids[first]}: {message(first)} ({such(count)})")


def check_tokens(trace: Recorded) -> None:
    """Refuse numbers below zero, steps that run backwards, passes in pieces and positions out of order."""
    for name in ("sequence_T", "position_T", "step_T", "phase_T", "token_id_T", "rank_T"):
        values = getattr(trace, name)
        if values is not None:
            check_range(name, values, "row")
    if trace.norm_TL is not None:
        bad_T = ~((trace.norm_TL >= 0) & (trace.norm_TL < np.inf)).all(1)
        refuse(bad_T, "row", lambda row: f"norm is {trace.norm_TL[row].tolist()!s:.60}, allowed finite numbers >= 0")
    step_T, position_T = trace.step_T, trace.position_T
    backwards_T = np.append(False, step_T[1:] < step_T[:-1])
    refuse(backwards_T, "row", lambda row: f"step is {step_T[row]}, allowed at least {step_T[row - 1]} as before it")
    same_pass_T = np.append(False, (step_T[1:] == step_T[:-1]) & (trace.sequence_T[1:] == trace.sequence_T[:-1]))
    disordered_T = same_pass_T & np.append(False, position_T[1:] <= position_T[:-1])
    refuse(disordered_T, "row", lambda row: f"position is {position_T[row]}, allowed above {position_T[row - 1]}")
    # Passes whose sequences ascend within each step are whole; keys of all passes take more than the fields themselves.
    if ((step_T[1:] == step_T[:-1]) & (trace.sequence_T[1:] < trace.sequence_T[:-1])).any():
        check_whole_passes(trace.sequence_T, step_T, np.flatnonzero(~same_pass_T))


def check_whole_passes(sequence_T: np.ndarray, step_T: np.ndarray, first_row_P: np.ndarray) -> None:
    """Refuse a (sequence, step) whose rows are in two places."""
    key_P = (step_T[first_row_P].astype(np.int64) << 32) | sequence_T[first_row_P]
    order_P = np.argsort(key_P, kind="stable")
    again_P = np.zeros(len(key_P), bool)
    again_P[order_P[1:]] = key_P[order_P[1:]] == key_P[order_P[:-1]]
    if again_P.any():
        row = int(first_row_P[again_P.argmax()])
        place = f"sequence is {sequence_T[row]}, which had rows in step {step_T[row]} before"
        raise InputError(f"row {row}: {place}, allowed: rows of a pass together ({such(int(again_P.sum()))})")


def check_range(name: str, values: np.ndarray, place: str, ids: np.ndarray | None = None) -> None:
    """Refuse values outside their field's range; `ids` are the names of the entries, None: their index."""
    low, high = LOWEST.get(name, 0), HIGHEST.get(name)
    column = name.rsplit("_", 1)[0]
    allowed = f">= {low}" if high is None else f"{low}..{high}"
    marked = values < low if high is None else (values < low) | (values > high)
    refuse(marked, place, lambda at: f"{column} is {values[at]}, allowed {allowed}", ids)


def check_sequences(trace: Recorded) -> None:
    """Refuse labels, lengths and times below their lowest value, and domains that are no Unicode text."""
    for name in ("label_S", "prediction_S", "prompt_len_S", "arrival_ns_S"):
        values = getattr(trace, name)
        if values is not None:
            check_range(name, values, "sequence", trace.sequences_S)
    if trace.domain_S is not None:
        try:
            "".join(trace.domain_S.tolist()).encode()
        except UnicodeEncodeError as error:
            raise InputError(f"domain has {error.object[error.start]!a}, allowed Unicode text") from None
