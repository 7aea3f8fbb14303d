"""Traces made in Python: from the arrays of one's own program, or drawn with stated statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moe_replay.traces.command_line.provenance import provenance
from moe_replay.traces.errors import InputError
from moe_replay.traces.header import SCORE_KINDS
from moe_replay.traces.importers import npz
from moe_replay.traces.importers.reading.import_source import PHASES, Options, Source
from moe_replay.traces.selections import Trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


@dataclass(frozen=True)
class ArraySource(Source):
    """Arrays of a running program: what an `.npz` file would hold, without the file."""

    def data(self, files: list[Path]) -> dict:
        """Return the header's `data`; there is no file to take a digest of."""
        return {"name": "arrays", "digest": None, "note": "arrays of a Python program"}


def trace_from_arrays(
    experts_TLK: np.ndarray,
    offsets: Sequence[int] | np.ndarray,
    *,
    experts: int,
    phase: str,
    k: int | None = None,
    ranked: bool = False,
    scores_TLK: np.ndarray | None = None,
    score_kind: str | None = None,
    prompt_len: Sequence[int] | np.ndarray | None = None,
    layer_ids: Sequence[int] | None = None,
    zero_experts: int = 0,
    model: str = "unknown",
) -> Trace:
    """Return the trace of the experts that tokens selected; arrays are copied.

    `experts_TLK` [T, L, K] holds whole numbers: the experts of token t in MoE layer l, -1 in empty slots, which are
    last. Sequence i is rows `offsets[i]` to `offsets[i + 1] - 1`; sequences run one after another. `experts` is the
    number of experts that a router chooses among; the last `zero_experts` of them have no weights. `phase` says what
    rows are: `prefill` (all tokens of a sequence in one pass), `decode` (a pass each), or `both`: then `prompt_len`
    has the tokens of every sequence's prompt. `k` is how many experts the model uses of the K that are recorded (all),
    `ranked` says that the slots are in the router's order, best first. `scores_TLK` [T, L, K] are the router's
    scores, and `score_kind` (softmax, sigmoid, logits, ...) says what they are. `layer_ids` are the model's own numbers
    of the L layers, 0 to L-1 unless given.

    InputError says which array, row and value is wrong, and what is allowed. The command `traces import npz` reads the
    same arrays from a file.
    """
    check_counts(experts=experts, k=k, zero_experts=zero_experts)
    check_phase(phase, prompt_len)
    check_scores(scores_TLK, score_kind)
    given = {"experts": experts_TLK, "offsets": offsets, "scores": scores_TLK, "prompt_len": prompt_len,
             "layer_ids": None if layer_ids is None else list(layer_ids)}  # fmt: skip
    arrays = {name: np.array(values) for name, values in given.items() if values is not None}
    names = {name: name for name in arrays} | {"experts": "experts_TLK", "scores": "scores_TLK"}
    said = {"model": model, "experts": experts, "k": k, "ranked": ranked, "phase": phase, "score_kind": score_kind}
    options = Options(zero_experts=zero_experts, **said)
    source = ArraySource("arrays", (Path("arrays"),), options, provenance())
    return npz.trace_of(Path("arrays"), {**arrays, "names": names, "left_out": []}, source)


def check_counts(**counts: int | None) -> None:
    """Refuse what is no whole number, or below zero."""
    for name, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int | None) or (value or 0) < 0:
            raise InputError(f"{name} is {value!r}, allowed: whole numbers")


def check_phase(phase: str, prompt_len: object) -> None:
    """Refuse an unknown phase, and `both` without the lengths of prompts."""
    if phase not in PHASES:
        raise InputError(f"phase is {phase!r}, allowed {', '.join(PHASES)}")
    if phase == "both" and prompt_len is None:
        raise InputError("phase 'both' needs prompt_len, the tokens of every sequence's prompt")


def check_scores(scores_TLK: np.ndarray | None, score_kind: str | None) -> None:
    """Refuse scores without a kind, a kind without scores, and an unknown one."""
    if (scores_TLK is None) != (score_kind is None) or score_kind not in (None, *SCORE_KINDS):
        known = ", ".join(SCORE_KINDS)
        raise InputError(f"score_kind is {score_kind!r}, allowed with scores_TLK: {known}; without: None")


def synthetic(
    *,
    layers: int = 4,
    experts: int = 16,
    k: int = 4,
    alpha: float = 1.0,
    reuse: float = 0.3,
    sequences: int = 64,
    prompt: int | tuple[int, int] = 16,
    decode: int | tuple[int, int] = 16,
    batch: int = 8,
    scores: bool = True,
    seed: int = 0,
) -> Trace:
    """Return a synthetic trace of stated statistics; equal arguments give equal traces.

    Each of `layers` layers has `experts` experts, of which a token selects `k`. Popularity follows a Zipf law of
    exponent `alpha`, and with probability `reuse` a token repeats the experts of the token before it in its sequence.
    Each of `sequences` sequences has a prompt of `prompt` tokens and decodes `decode` more (a number, or the lowest and
    highest); `batch` sequences run together. `scores` adds softmax scores. The command `traces make` writes the same
    trace to a file. InputError for numbers that cannot be.
    """
    spec = SyntheticSpec(
        layers=layers, experts=experts, k=k, alpha=alpha, reuse=reuse, sequences=sequences, batch=batch, scores=scores,
        prompt=lengths(prompt), decode=lengths(decode),
    )  # fmt: skip
    return synthetic_trace(spec, np.random.default_rng(seed), provenance(seed)).trace


def lengths(tokens: int | tuple[int, int]) -> tuple[int, int]:
    """Return the lowest and the highest number of tokens."""
    return (tokens, tokens) if isinstance(tokens, int) else tuple(tokens)
