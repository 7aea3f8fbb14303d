"""Rows without a route in what an importer reads: refused by name, left out, or kept as tokens without a route.

How they look is in `traces.no_data`; beside that, -1 says it in so many words.
"""

import math
from dataclasses import dataclass

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.checks import such
from moe_replay.traces.importers.reading.import_source import KEEP, PADDING, REAL, UNROUTED_ROWS, Source
from moe_replay.traces.no_data import CHANCE_BITS, SKEW, filled_rows, padding_tokens, same_filling
from moe_replay.traces.selections import Trace


@dataclass(frozen=True)
class Routes:
    """Rows as a trace takes them (int16, all slots -1 where there is no route), which tokens stay, what is left out."""

    experts_TLK: np.ndarray
    kept_T: np.ndarray
    left_out: tuple[str, ...] = ()

    def only(self, trace: Trace) -> Trace:
        """Return a trace of all these rows without the tokens that are left out."""
        return trace if self.kept_T.all() else trace.only(self.kept_T)


def routes_of(
    source: Source, place: str, experts_TLK: np.ndarray, layer_ids: tuple[int, ...] | None = None, experts: int = 0
) -> Routes:
    """Return the routes in rows of ids, which are checked to be -1..experts-1 (0: those of --experts).

    InputError where rows are no data, other than of -1, and neither --leave-out nor --unrouted says what to do with
    them, and where no row has a route.
    """
    tokens, layers, _ = experts_TLK.shape
    experts, choice = experts or source.options.experts, source.options.unrouted
    leave_out = source.options.leave_out
    looks_TL = filled_rows(experts_TLK, experts) if choice != REAL else np.zeros((tokens, layers), bool)
    lacks_TL = empty_rows(experts_TLK)
    lacks_TL |= looks_TL
    if lacks_TL.all():
        value = "only -1" if (experts_TLK == -1).all() else f"{experts_TLK[0, 0, 0]} in every slot"
        raise InputError(f"{place}: all {tokens} rows of all {layers} layers hold {value}: no routes were captured")
    check_no_dense(place, experts_TLK, lacks_TL, experts, choice, layer_ids)
    if looks_TL.any() and choice != KEEP and UNROUTED_ROWS not in leave_out:
        raise InputError(f"{place}: {filled_text(experts_TLK, looks_TL, layer_ids)}")
    padding_T = padding_tokens(experts_TLK, experts) if choice != REAL else np.zeros(tokens, bool)
    if padding_T.any() and PADDING not in leave_out:
        raise InputError(f"{place}: {padding_text(experts_TLK, padding_T)}")
    unrouted_T = lacks_TL.all(1) if UNROUTED_ROWS in leave_out else np.zeros(tokens, bool)
    kept_T = ~(padding_T | unrouted_T)
    if not kept_T.any():
        raise InputError(f"{place}: all {tokens} tokens are left out, allowed: at least one with a route")
    said = left_out_texts(padding_T, unrouted_T, lacks_TL)
    kept_TLK = experts_TLK.astype(np.int16)
    if looks_TL.any():
        kept_TLK[looks_TL] = -1
    return Routes(kept_TLK, kept_T, said)


def empty_rows(experts_TLK: np.ndarray) -> np.ndarray:
    """Return which rows (T, L) hold -1 in every slot."""
    if experts_TLK.dtype.kind == "u":
        return np.zeros(experts_TLK.shape[:2], bool)
    empty_TL = experts_TLK[:, :, 0] == -1
    if empty_TL.any():
        empty_TL &= (experts_TLK == -1).all(2)
    return empty_TL


def left_out_texts(padding_T: np.ndarray, unrouted_T: np.ndarray, lacks_TL: np.ndarray) -> tuple[str, ...]:
    """Return what is left out in words, and what of the same kind is kept since its token has a route elsewhere."""
    if not (padding_T.any() or unrouted_T.any()):
        return ()
    tokens, partly = len(padding_T), int(lacks_TL[~(padding_T | unrouted_T)].sum())
    others = f" ({partly:,} rows of tokens with a route in other layers are kept)" if partly else ""
    return tuple(
        f"{int(marked_T.sum()):,} of {tokens:,} tokens, {why}; the first is row {int(marked_T.argmax())}"
        for marked_T, why in (
            (unrouted_T, f"which have no route in any layer{others}"), (padding_T, "which are padding"),
        )
        if marked_T.any()
    )  # fmt: skip


def filled_text(experts_TLK: np.ndarray, looks_TL: np.ndarray, layer_ids: tuple[int, ...] | None) -> str:
    """Return the line that refuses rows with one id in every slot."""
    k = experts_TLK.shape[2]
    row, layer = (int(at) for at in np.unravel_index(int(looks_TL.argmax()), looks_TL.shape))
    named = layer_ids[layer] if layer_ids else layer
    held = f"every slot is {experts_TLK[row, layer, 0]}" if k > 1 else f"expert {experts_TLK[row, layer, 0]} again"
    real = "" if k > 1 else f", or --unrouted {REAL}, where these are routes"
    return (
        f"row {row}, layer {named}: {held} ({such(int(looks_TL.sum()))}): no route was captured, as of a prompt "
        f"computed elsewhere; allowed: --unrouted {KEEP}, which keeps such tokens without a route, or --leave-out "
        f"{UNROUTED_ROWS}{real}"
    )


def padding_text(experts_TLK: np.ndarray, padding_T: np.ndarray) -> str:
    """Return the line that refuses padding."""
    k = experts_TLK.shape[2]
    return (
        f"row {int(padding_T.argmax())}: experts are 0..{k - 1} in this order in every layer "
        f"({such(int(padding_T.sum()))}): padding, no routes; allowed: --leave-out {PADDING}, or --unrouted {REAL}, "
        "where these are routes"
    )


def check_no_dense(
    place: str, experts_TLK: np.ndarray, lacks_TL: np.ndarray, experts: int, choice: str | None,
    layer_ids: tuple[int, ...] | None,
) -> None:  # fmt: skip
    """Refuse a layer without a route in any row, beside layers with some: a dense layer is none of a trace's."""
    tokens, layers, k = experts_TLK.shape
    dense_L = lacks_TL[0].copy()  # a layer that lacks its first row may lack all
    for layer in np.flatnonzero(dense_L):
        dense_L[layer] = lacks_TL[:, layer].all()
    if k == 1 and layers > 1 and choice != REAL and tokens * math.log2(experts) >= CHANCE_BITS * SKEW:
        dense_L = dense_L | same_filling(experts_TLK).all(0)
    if dense_L.any():
        layer = int(dense_L.argmax())
        held = f"layer {layer_ids[layer] if layer_ids else layer} holds {experts_TLK[0, layer, 0]} in all {tokens} rows"
        real = f", or --unrouted {REAL}, where these are routes" if k == 1 else ""
        raise InputError(f"{place}: {held}, as a dense layer does; allowed: the MoE layers alone{real}")


def check_whole(source: Source, place: str, experts_TLK: np.ndarray, layer_ids: tuple[int, ...]) -> None:
    """Refuse padding in responses: -1 in some slots of a row, or in all of them where no such rows are expected."""
    empty_TLK = experts_TLK == -1
    expected = source.options.unrouted == KEEP or UNROUTED_ROWS in source.options.leave_out
    wrong_TL = empty_TLK.any(2) & ~(empty_TLK.all(2) & expected)
    if wrong_TL.any():
        row, layer = (int(at) for at in np.unravel_index(int(wrong_TL.argmax()), wrong_TL.shape))
        found = f"row {row}, layer {layer_ids[layer]}: experts are {experts_TLK[row, layer].tolist()}"
        way = f"rows of -1 in every slot with --unrouted {KEEP} or --leave-out {UNROUTED_ROWS}"
        raise InputError(f"{place}: {found}, allowed: an expert in every slot, or {way} ({such(int(wrong_TL.sum()))})")
