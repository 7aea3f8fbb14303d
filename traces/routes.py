"""Rows without a route: a token of which a layer recorded no expert at all, by a source that lost or dropped it.

Such a row is no token that selected nothing: it is left out of everything that counts tokens of a layer, or compares a
token with the one before it. A row with some empty slots (a dynamic K) has a route.
"""

import numpy as np

from traces.chunks import chunks
from traces.selections import Trace


def routed_rows(experts_TLK: np.ndarray) -> np.ndarray:
    """Return which rows (T, L) hold an expert; experts stand before empty slots, so the first slot tells."""
    return experts_TLK[:, :, 0] >= 0


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
        f"{rows:,} of {trace.T * trace.L:,} rows (token, layer) have no route, and "
        f"{tokens:,} of {trace.T:,} tokens none in any layer"
    )
