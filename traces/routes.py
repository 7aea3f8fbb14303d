"""What is no selection of an expert to compute: rows without a route, and experts without weights.

A row without a route is a token of which a layer recorded no expert at all: its source lost or dropped it. It is left
out of everything that counts tokens of a layer, or compares a token with the one before it. A row with some empty
slots (a dynamic K) has a route.

An expert without weights (`zero_experts` of the header; they have the last ids) hands its input on. A selection of one
takes no slot, no batch and no time; it is no load and no access.
"""

import numpy as np

from moe_replay.traces.file.chunks import chunks
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.selections import Trace

EMPTY, WEIGHTLESS = -1, -2


def routed_rows(experts_TLK: np.ndarray) -> np.ndarray:
    """Return which rows (T, L) hold an expert, also one without weights; no expert follows an empty slot."""
    return experts_TLK[:, :, 0] != EMPTY


def leaps(before_T: np.ndarray, after_T: np.ndarray) -> np.ndarray:
    """Return where the position of a token is not the next one: tokens between were left out, or never recorded.

    A position that stays or falls is no leap: a rejected draft token was computed again.
    """
    return after_T - before_T > 1


def marked(experts_TLK: np.ndarray, model: ModelInfo) -> np.ndarray:
    """Return selections with WEIGHTLESS in the place of experts without weights; where there are none, as they are."""
    if not model.zero_experts:
        return experts_TLK
    return np.where(experts_TLK >= model.real_experts, np.int16(WEIGHTLESS), experts_TLK)


def computed(experts_TLK: np.ndarray, model: ModelInfo) -> np.ndarray:
    """Return the selections of experts with weights in their order, empty slots behind them."""
    if not model.zero_experts:
        return experts_TLK
    kept_TLK = marked(experts_TLK, model)
    order_TLK = np.argsort(kept_TLK < 0, axis=2, kind="stable")
    return np.maximum(np.take_along_axis(kept_TLK, order_TLK, axis=2), EMPTY)


def weightless_text(trace: Trace, k: int | None = None) -> str:
    """Return how many of the first k selections (all) go to experts without weights; nothing for other models."""
    model = trace.header.model
    if not model.zero_experts:
        return ""
    kept = marked(trace.experts_TLK[:, :, : max(trace.ks) if k is None else k], model)
    weightless, selections = int((kept == WEIGHTLESS).sum()), int((kept != EMPTY).sum())
    per_token_L = (kept >= 0).sum((0, 2)) / np.maximum(routed_tokens(trace), 1)
    low, high = f"{per_token_L.min():.2f}", f"{per_token_L.max():.2f}"
    others = low if low == high else f"{low} to {high}"
    return (
        f"{weightless:,} of {selections:,} selections ({weightless / max(selections, 1):.1%}) are of experts without "
        f"weights ({model.real_experts}..{model.experts - 1}); a token runs {others} others per layer"
    )


def routed_tokens(trace: Trace) -> np.ndarray:
    """Return how many tokens have a route in each layer, int64 [L]."""
    runs = chunks(trace.T, trace.L)
    return sum(routed_rows(trace.experts_TLK[run]).sum(0) for run in runs)


def without_route_text(trace: Trace) -> str:
    """Return how many rows have no route, nothing where all have one."""
    rows = trace.T * trace.L - int(routed_tokens(trace).sum())
    if not rows:
        return ""
    tokens = sum(int((~routed_rows(trace.experts_TLK[run]).any(1)).sum()) for run in chunks(trace.T, trace.L))
    return (
        f"{rows:,} of {trace.T * trace.L:,} rows (token, layer) have no route (dropped, or not captured), and "
        f"{tokens:,} of {trace.T:,} tokens none in any layer"
    )


def uncomputed(trace: Trace, k: int | None = None) -> list[str]:
    """Return what of a trace's first k selections (all) no expert computes, in sentences: none for most traces."""
    return [each for each in (without_route_text(trace), weightless_text(trace, k)) if each]
