"""Selections in the order in which llama.cpp evaluates: batch after batch, all its layers, all tokens of a layer.

No number says where a token begins: k does. A batch begins where the layers begin anew. One token alone is a decoded
one, more are (a part of) a prompt, and a prompt behind a decoded token begins another sequence. In the last layer
llama.cpp computes only tokens whose logits were asked for, the last of a prompt: the others have no route there.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.checks import such
from moe_replay.traces.importers.reading.checked_rows import checked_trace
from moe_replay.traces.importers.reading.import_source import Source
from moe_replay.traces.selections import Trace

NOTES = {
    "sequences": "batches of more than one token are prompts; one behind a decoded token begins another sequence",
}
LAST_LAYER = "only tokens whose logits were asked for were computed in the last layer; the others have no route there"


@dataclass(frozen=True)
class Runs:
    """Q runs, the tokens of one batch in one layer; `begins_Q`: there a file begins; `experts_NK` are their tokens'."""

    layer_Q: np.ndarray
    tokens_Q: np.ndarray
    begins_Q: np.ndarray
    experts_NK: np.ndarray


def runs_of(place: str, layer_R: np.ndarray, expert_R: np.ndarray, k: int, starts: tuple[int, ...]) -> Runs:
    """Return the runs of a stream with one selection a row; `starts` are rows at which another stream begins."""
    new_R = np.append(True, layer_R[1:] != layer_R[:-1])
    new_R[[at for at in starts if at < len(new_R)]] = True
    start_Q = np.flatnonzero(new_R)
    length_Q = np.diff(start_Q, append=len(layer_R))
    odd_Q = length_Q % k != 0
    if odd_Q.any():
        at = int(odd_Q.argmax())
        found = f"row {start_Q[at] + 1}: {length_Q[at]} selections of layer {layer_R[start_Q[at]]} in a row"
        raise InputError(f"{place}: {found}, allowed a multiple of --k {k} ({such(int(odd_Q.sum()))})")
    begins_Q = np.isin(start_Q, (0, *starts))
    return Runs(layer_R[start_Q], length_Q // k, begins_Q, expert_R.reshape(-1, k))


def trace_of_runs(source: Source, runs: Runs) -> Trace:
    """Return the trace of runs; InputError where a batch lacks a layer, or tokens in one that is not the last."""
    layer_ids, layer_Q = np.unique(runs.layer_Q, return_inverse=True)
    layers = len(layer_ids)
    first_Q = runs.begins_Q | np.append(True, layer_Q[1:] <= layer_Q[:-1])
    batch_Q = np.cumsum(first_Q) - 1
    batches = int(batch_Q[-1]) + 1
    tokens_B = np.zeros(batches, np.int64)
    np.maximum.at(tokens_B, batch_Q, runs.tokens_Q)
    check_batches(source.place, runs, (layer_ids, layer_Q), batch_Q, tokens_B)
    offset_B = np.cumsum(tokens_B) - tokens_B
    start_Q = offset_B[batch_Q] + tokens_B[batch_Q] - runs.tokens_Q  # fewer tokens are the batch's last
    within_N = np.arange(len(runs.experts_NK)) - np.repeat(np.cumsum(runs.tokens_Q) - runs.tokens_Q, runs.tokens_Q)
    experts_TLK = np.full((int(tokens_B.sum()), layers, runs.experts_NK.shape[1]), -1, np.int64)
    experts_TLK[np.repeat(start_Q, runs.tokens_Q) + within_N, np.repeat(layer_Q, runs.tokens_Q)] = runs.experts_NK
    file_B = runs.begins_Q[first_Q]
    behind_B = np.append(False, (tokens_B[1:] > 1) & (tokens_B[:-1] == 1))
    fields = fields_of_batches(source, tokens_B, file_B | behind_B, layers)
    partly = bool((runs.tokens_Q < tokens_B[batch_Q]).any())
    notes = NOTES | ({"last_layer": LAST_LAYER} if partly else {})
    return checked_trace(source, experts_TLK, tuple(layer_ids.tolist()), fields, notes)


def check_batches(place: str, runs: Runs, layers: tuple, batch_Q: np.ndarray, tokens_B: np.ndarray) -> None:
    """Refuse a batch without some layer, and one that lost tokens in a layer before the last."""
    layer_ids, layer_Q = layers
    lacks_B = np.bincount(batch_Q) != len(layer_ids)
    if lacks_B.any():
        batch = int(lacks_B.argmax())
        missing = np.setdiff1d(np.arange(len(layer_ids)), layer_Q[batch_Q == batch])[0]
        found = f"batch {batch} has no rows of layer {layer_ids[missing]}"
        raise InputError(f"{place}: {found}, allowed: every layer in each batch ({such(int(lacks_B.sum()))})")
    short_Q = (runs.tokens_Q < tokens_B[batch_Q]) & (layer_Q < len(layer_ids) - 1)
    if short_Q.any():
        at = int(short_Q.argmax())
        batch = batch_Q[at]
        found = f"batch {batch}: {runs.tokens_Q[at]} tokens in layer {runs.layer_Q[at]}"
        raise InputError(f"{place}: {found}, allowed {tokens_B[batch]} as in its other layers ({such(short_Q.sum())})")


def fields_of_batches(source: Source, tokens_B: np.ndarray, new_B: np.ndarray, layers: int) -> dict[str, np.ndarray]:
    """Return sequence_T, position_T, step_T, phase_T of batches, each a step; `new_B` where a sequence begins."""
    step_T = np.repeat(np.arange(len(tokens_B)), tokens_B)
    sequence_T = (np.cumsum(new_B) - 1)[step_T]
    first_S = np.flatnonzero(np.append(True, np.diff(sequence_T) != 0))
    position_T = np.arange(len(step_T)) - first_S[sequence_T]
    phase_T = ((tokens_B == 1) & ~new_B)[step_T].astype(np.int8)
    if layers == 1:  # nothing tells where a batch ends
        if source.options.phase not in ("prefill", "decode"):
            needs = "needed: --phase prefill or decode"
            raise InputError(f"{source.kind}: {source.place}: {needs}; one layer alone does not tell its batches")
        phase_T[:] = source.options.phase == "decode"
        step_T = np.arange(len(step_T)) if source.options.phase == "decode" else sequence_T
    elif source.options.phase not in (None, "both"):
        raise InputError(f"{source.place}: batches tell the phase; allowed: no --phase")
    fields = {"sequence_T": sequence_T, "position_T": position_T, "step_T": step_T}
    return {name: each.astype(np.int32) for name, each in fields.items()} | {"phase_T": phase_T}
