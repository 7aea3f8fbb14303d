"""Rollouts of reinforcement learning: sequences of selections with their tokens, as a trace.

The last generated token is never routed: a sequence has one row fewer than tokens, or a row of zeros in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from moe_replay.traces.command_line.number_limits import narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.importers.reading.checked_rows import checked_trace
from moe_replay.traces.importers.reading.import_source import Source, layer_numbers
from moe_replay.traces.importers.reading.token_rows import ONE_AFTER_ANOTHER, Sequences, without_dense
from moe_replay.traces.selections import LARGEST_ROWS, Trace

NOTES = ONE_AFTER_ANOTHER | {"rows": "the last generated token of a sequence is never routed and has no row"}


@dataclass(frozen=True)
class Rollout:
    """One sequence: its place in words, experts [rows, L, k], how many of its tokens are prompt, token ids or None."""

    place: str
    experts_TLK: np.ndarray
    prompt: int
    token_id_T: np.ndarray | None = None


def fitted(rollout: Rollout, tokens: int) -> Rollout:
    """Return a sequence of so many tokens with a row for each but the last; InputError for another number of rows."""
    place, rows = rollout.place, len(rollout.experts_TLK)
    if not 0 <= rollout.prompt <= tokens:
        raise InputError(f"{place}: {rollout.prompt} prompt tokens of {tokens}, allowed 0..{tokens}")
    if rows == tokens and not rollout.experts_TLK[-1:].any():
        rows = tokens - 1
    if rows != tokens - 1 or not rows:
        allowed = f"{tokens - 1} for {tokens} tokens: the last one is never routed"
        raise InputError(f"{place}: {rows} rows of experts, allowed {allowed}")
    ids = rollout.token_id_T
    if ids is not None and (ids.shape != (tokens,) or ids.min() < 0 or ids.max() > LARGEST_ROWS):
        raise InputError(f"{place}: token ids {ids.min()}..{ids.max()}, allowed {tokens} of 0..{LARGEST_ROWS}")
    return replace(
        rollout, experts_TLK=rollout.experts_TLK[:rows], prompt=min(rollout.prompt, rows),
        token_id_T=None if ids is None else ids[:rows],
    )  # fmt: skip


def trace_of_rollouts(source: Source, rollouts: list[Rollout], left_out: list[str]) -> Trace:
    """Return the trace of sequences; layers that hold only zeros are dense ones, which --layers does not name."""
    if not rollouts:
        raise InputError(f"{source.place}: no sequence with selections, allowed at least one")
    shape = rollouts[0].experts_TLK.shape[1:]
    for each in rollouts:
        if each.experts_TLK.shape[1:] != shape:
            raise InputError(
                f"{each.place}: rows are [layers, k] {each.experts_TLK.shape[1:]}, allowed {shape} as before"
            )
    experts_TLK = np.concatenate([each.experts_TLK for each in rollouts])
    layer_ids = moe_layers(source, experts_TLK)
    experts_TLK = without_dense(source.place, experts_TLK, layer_ids)
    length_S = np.array([len(each.experts_TLK) for each in rollouts])
    prompt_S = np.array([each.prompt for each in rollouts])
    fields = Sequences(length_S, prompt_S, np.zeros_like(length_S)).token_fields()
    fields["prompt_len_S"] = narrowed("prompt_len", prompt_S, np.int32)
    if all(each.token_id_T is not None for each in rollouts):
        fields["token_id_T"] = np.concatenate([each.token_id_T for each in rollouts]).astype(np.int32)
    notes = NOTES | ({"left_out": left_out} if left_out else {})
    return checked_trace(source, experts_TLK, layer_ids, fields, notes)


def moe_layers(source: Source, experts_TLK: np.ndarray) -> tuple[int, ...]:
    """Return the MoE layers: those of --layers, else all; InputError where some look dense and are not named."""
    layers = experts_TLK.shape[1]
    if source.options.layers:
        return layer_numbers(source.options.layers, layers)
    dense_L = ~experts_TLK.any((0, 2))
    if dense_L.any() and not dense_L.all():
        found = f"layer {int(dense_L.argmax())} holds only zeros, as a dense layer does"
        raise InputError(f"{source.place}: {found}; allowed: --layers names the MoE layers")
    return tuple(range(layers))


def experts_of(place: str, values: np.ndarray | None, k: int | None) -> np.ndarray:
    """Return rows [rows, layers, k] of whole numbers; rows that are flat are cut by --k."""
    if values is None or values.dtype.kind not in "iu" or values.ndim not in (2, 3):
        found = "no array" if values is None else f"{values.dtype} of shape {values.shape}"
        raise InputError(f"{place}: experts are {found}, allowed whole numbers [rows, layers, k]")
    if values.ndim == 2:
        if k is None or values.shape[1] % k:
            raise InputError(f"{place}: flat rows of {values.shape[1]} experts; allowed: --k, which divides them")
        return values.reshape(len(values), -1, k)
    return values
