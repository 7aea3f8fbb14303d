"""What a trace tells policies beforehand: how popular and how important its experts are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.memory.knowledge import Knowledge
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS
from moe_replay.traces.describe import load_LE, slots
from moe_replay.traces.errors import InputError
from moe_replay.traces.selections import Trace

EXPERT_NORMS = "expert_norm_LE"  # note of a trace: the norm of every expert's weights, a list for each layer


def needs_of(policies: tuple[str, ...], prefetchers: tuple[str, ...]) -> set[str]:
    """Return the fields of Knowledge that some policies and prefetchers ask for."""
    chosen = [CACHES[name] for name in policies] + [PREFETCHERS[name] for name in prefetchers]
    return {need for each in chosen for need in each.needs}


def known_from(trace: Trace, k: int | None, needs: set[str], learned: str = "hindsight") -> Knowledge:
    """Return what a trace tells beforehand, as far as it is needed: popularity and importance of its experts.

    `learned` is the mark of that: `held-out` where the trace is not the one that is replayed.
    """
    popularity = load_LE(trace, k).ravel().tolist() if "popularity" in needs else None
    importance = importance_LE(trace, k).ravel().tolist() if "importance" in needs else None
    return Knowledge(trace.L, trace.E, popularity, importance, learned=learned)


def importance_LE(trace: Trace, k: int | None = None) -> np.ndarray:
    """Return SwapMoE's importance of every expert: the sum of input norm times gate weight over its tokens.

    Equation 1 of arXiv 2308.15030; the norms of experts' own weights are taken as equal where the trace does not tell
    them. Counts the first k slots (all). Raises InputError for a trace without norms of inputs, or without scores that
    are weights.
    """
    if trace.norm_TL is None or trace.header.score_kind not in ("softmax", "sigmoid", "selected"):
        held = f"norms: {'no' if trace.norm_TL is None else 'yes'}, scores: {trace.header.score_kind or 'none'}"
        raise InputError(f"importance needs norm_TL and scores (softmax, sigmoid or selected); the trace has {held}")
    experts_TLK = slots(trace, k)
    gain_TLK = trace.norm_TL[..., None].astype(np.float64) * trace.scores_TLK[..., : experts_TLK.shape[2]]
    key_TLK = experts_TLK + np.arange(trace.L)[:, None] * trace.E
    filled = experts_TLK >= 0
    gain = np.bincount(key_TLK[filled], gain_TLK[filled], minlength=trace.L * trace.E)
    norm_LE = expert_norm_LE(trace)
    return gain.reshape(trace.L, trace.E) * (1.0 if norm_LE is None else norm_LE)


def expert_norm_LE(trace: Trace) -> np.ndarray | None:
    """Return the norm of every expert's weights, None where the trace does not tell; InputError for impossible ones."""
    noted = trace.header.notes.get(EXPERT_NORMS)
    if noted is None:
        return None
    try:
        norm_LE = np.array(noted, float)
    except (TypeError, ValueError):
        norm_LE = np.zeros(0)
    if norm_LE.shape != (trace.L, trace.E) or not (np.isfinite(norm_LE) & (norm_LE >= 0)).all():
        raise InputError(f"header: notes.{EXPERT_NORMS}: allowed {trace.L} lists of {trace.E} numbers >= 0")
    return norm_LE


def known_of(trace: Trace, k: int | None, memories: Sequence[MemoryConfig], learned: str = "hindsight") -> Known:
    """Return what a trace tells the policies of some memories: popularity, importance and norms, where they ask.

    `learned` as in `known_from`.
    """
    knowledge = known_from(trace, k, set().union(*(each.needs for each in memories)))
    norm_LE = expert_norm_LE(trace) if any(each.period is not None for each in memories) else None
    norm_K = None if norm_LE is None else norm_LE.ravel().tolist()
    return Known(knowledge.popularity, knowledge.importance, norm_K, learned=learned)


def check_sizes(path: Path, known: Trace, trace: Trace) -> None:
    """Refuse a trace to know from, read from `path`, that is of a model of another size than the one replayed."""
    if (known.L, known.E) != (trace.L, trace.E):
        raise InputError(
            f"{path}: {known.L} layers of {known.E} experts, allowed {trace.L} of {trace.E}, as in the trace replayed"
        )
