"""Rows of tokens whose route was not captured, and which look as if they had one: the same filling in every slot.

Engines fill them with zeros (a prompt that was computed elsewhere), with -1, or with what -1 becomes in eight bits. Of
several slots no real row holds one id in all. A single slot may hold a filling's id by chance: there a run of rows that
hold it in all layers tells, where it is too long for chance.
"""

import math

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.checks import such
from moe_replay.traces.importers.reading.import_source import KEEP, REAL

FILLINGS = (0, 255)  # beside -1
RUN_BITS = 40  # a run of rows is no chance where a coin would have to fall the same way so often
SKEW = 2  # loads are skewed, so that a hot expert's id says less than log2 E bits


def with_unrouted(
    place: str, experts_TLK: np.ndarray, experts: int, choice: str | None, layer_ids: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return the rows with -1 in every slot of those without a route, int16; ids are checked to be -1..experts-1.

    InputError where there are such rows, other than of -1, and `choice` is not `keep`; with `real` runs of a single
    slot are taken for routes. InputError, too, where no row has a route.
    """
    tokens, layers, k = experts_TLK.shape
    looks_TL = filled(experts_TLK) if k > 1 else long_runs(experts_TLK[:, :, 0], experts, choice)
    empty_TL = (experts_TLK == -1).all(2)
    if (looks_TL | empty_TL).all():
        value = "only -1" if empty_TL.all() else f"{experts_TLK[0, 0, 0]} in every slot"
        raise InputError(f"{place}: all {tokens} rows of all {layers} layers hold {value}: no routes were captured")
    check_no_dense(place, experts_TLK, looks_TL | empty_TL, experts, choice, layer_ids)
    if looks_TL.any() and choice != KEEP:
        row, layer = (int(at) for at in np.unravel_index(int(looks_TL.argmax()), looks_TL.shape))
        named = layer_ids[layer] if layer_ids else layer
        held = f"every slot is {experts_TLK[row, layer, 0]}" if k > 1 else f"expert {experts_TLK[row, layer, 0]} again"
        real = "" if k > 1 else f", or --unrouted {REAL}, where these are routes"
        raise InputError(
            f"{place}: row {row}, layer {named}: {held} ({such(int(looks_TL.sum()))}): no route was captured, as of a "
            f"prompt computed elsewhere; allowed: --unrouted {KEEP}, which keeps such tokens without a route{real}"
        )
    return np.where(looks_TL[:, :, None], np.int16(-1), experts_TLK.astype(np.int16))


def check_no_dense(
    place: str, experts_TLK: np.ndarray, lacks_TL: np.ndarray, experts: int, choice: str | None,
    layer_ids: tuple[int, ...] | None,
) -> None:  # fmt: skip
    """Refuse a layer without a route in any row, beside layers with some: a dense layer is none of a trace's."""
    tokens, layers, k = experts_TLK.shape
    dense_L = lacks_TL.all(0)
    if k == 1 and layers > 1 and choice != REAL and tokens * math.log2(experts) >= RUN_BITS * SKEW:
        dense_L = dense_L | filled(experts_TLK).all(0)
    if dense_L.any():
        layer = int(dense_L.argmax())
        held = f"layer {layer_ids[layer] if layer_ids else layer} holds {experts_TLK[0, layer, 0]} in all {tokens} rows"
        real = f", or --unrouted {REAL}, where these are routes" if k == 1 else ""
        raise InputError(f"{place}: {held}, as a dense layer does; allowed: the MoE layers alone{real}")


def filled(experts_TLK: np.ndarray) -> np.ndarray:
    """Return which rows (T, L) hold one of the fillings in every slot."""
    return np.logical_or.reduce([(experts_TLK == filling).all(2) for filling in FILLINGS])


def long_runs(expert_TL: np.ndarray, experts: int, choice: str | None) -> np.ndarray:
    """Return which rows (T, L) of one slot are in a run of one filling in all layers that is too long for chance."""
    tokens, layers = expert_TL.shape
    marked_T = np.zeros(tokens, bool)
    if choice == REAL or experts < 2:
        return np.repeat(marked_T[:, None], layers, 1)
    id_T = np.full(tokens, -1)
    for filling in FILLINGS:
        id_T[(expert_TL == filling).all(1)] = filling
    start_R = np.flatnonzero(np.append(True, id_T[1:] != id_T[:-1]))
    stop_R = np.append(start_R[1:], tokens)
    least = (RUN_BITS + math.log2(tokens)) * SKEW / (layers * math.log2(experts))
    for start, stop in zip(start_R.tolist(), stop_R.tolist(), strict=True):
        marked_T[start:stop] = id_T[start] >= 0 and stop - start >= least
    return np.repeat(marked_T[:, None], layers, 1)


def check_whole(place: str, experts_TLK: np.ndarray, choice: str | None, layer_ids: tuple[int, ...]) -> None:
    """Refuse padding in responses: -1 in some slots of a row, or in all of them where no such rows are expected."""
    empty_TLK = experts_TLK == -1
    wrong_TL = empty_TLK.any(2) & ~(empty_TLK.all(2) & (choice == KEEP))
    if wrong_TL.any():
        row, layer = (int(at) for at in np.unravel_index(int(wrong_TL.argmax()), wrong_TL.shape))
        found = f"row {row}, layer {layer_ids[layer]}: experts are {experts_TLK[row, layer].tolist()}"
        way = f"rows of -1 in every slot with --unrouted {KEEP}"
        raise InputError(f"{place}: {found}, allowed: an expert in every slot, or {way} ({such(int(wrong_TL.sum()))})")
