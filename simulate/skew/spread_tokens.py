"""Tokens whose selections are spread as those of aiconfigurator's measurements: equally, or by a power law.

Letters: N tokens, K experts of a token, E experts of a layer. The law (its documentation, "power law distribution"):
weights of experts are drawn from x^-A between 1 and 0.8 N, or between 0.01 and 2 where selections are not more than
experts, and scaled to N K selections. Each measurement is the mean over five draws.
"""

from __future__ import annotations

import numpy as np

from moe_replay.traces.errors import InputError
from moe_replay.traces.served_layers.served_times import BALANCED

DRAWS = 5
POWER_LAW = "power_law_"


def spread_tokens(spread: str, tokens: int, experts: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return experts_SNK of S draws of a spread, one where nothing is drawn; InputError for an unknown spread."""
    if spread == BALANCED:
        return balanced_tokens(tokens, experts, k)[None]
    word = spread.removeprefix(POWER_LAW)
    try:
        exponent = float(word)
    except ValueError:
        exponent = float("nan")
    if word == spread or not exponent > 0 or exponent == 1:
        raise InputError(f"spread {spread!r}: nobody says what it is; allowed: {BALANCED}, {POWER_LAW}A (A > 0, not 1)")
    return np.stack([power_law_tokens(tokens, experts, k, exponent, rng) for _ in range(DRAWS)])


def balanced_tokens(tokens: int, experts: int, k: int) -> np.ndarray:
    """Return experts_NK whose loads are equal, as far as N K selections can be: every expert in its turn."""
    if tokens * k <= experts:  # far apart, so that every device gets its share of the few
        return np.arange(tokens * k).reshape(k, tokens).T * experts // (tokens * k)
    return (np.arange(tokens)[:, None] + np.arange(k) * experts // k) % experts


def power_law_tokens(tokens: int, experts: int, k: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Return experts_NK of one draw; no expert has more selections than there are tokens."""
    low, high = (1.0, 0.8 * tokens) if tokens * k > experts else (0.01, 2.0)
    ends = np.array([low, high]) ** (1 - exponent)
    weight_E = (ends[0] + (ends[1] - ends[0]) * rng.random(experts)) ** (1 / (1 - exponent))
    load_E = whole_loads(weight_E * (tokens * k / weight_E.sum()), tokens, tokens * k)
    # Expert by expert, a token after the other: an expert with at most N selections meets no token twice.
    return np.repeat(np.argsort(-load_E, kind="stable"), np.sort(load_E)[::-1]).reshape(k, tokens).T


def whole_loads(load_E: np.ndarray, most: int, total: int) -> np.ndarray:
    """Return whole loads close to these, none above `most`, that add up to `total`; the heaviest take what differs."""
    rounded_E = np.minimum(np.rint(load_E).astype(np.int64), most)
    while lacking := total - int(rounded_E.sum()):
        able_E = np.flatnonzero(rounded_E < most if lacking > 0 else rounded_E > 0)
        turn_E = able_E[np.argsort(-rounded_E[able_E], kind="stable")]
        each = max(1, abs(lacking) // len(turn_E))
        turn_E = turn_E if abs(lacking) >= len(turn_E) else turn_E[: abs(lacking)]
        change_E = np.minimum(each, most - rounded_E[turn_E] if lacking > 0 else rounded_E[turn_E])
        rounded_E[turn_E] += change_E if lacking > 0 else -change_E
    return rounded_E
