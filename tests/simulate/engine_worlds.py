"""Worlds for both engines: everything a run can ask for, ties and zero durations everywhere."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from random_worlds import costs, settings, workloads

from moe_replay.simulate.config.memory_config import HANDLINGS, LINKS, MASKED, MemoryConfig
from moe_replay.simulate.policies.caches.cache_names import CACHES, needs_loading
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS

LOADING = tuple(each for each in HANDLINGS if each not in MASKED)
KINDS = ("resident", "memory", "masked")  # all experts resident; expert memory; that with masked gating


@st.composite
def runs(draw, kind="resident", **given):
    """Draw the arguments of a run: workload, configuration, cost and, with memory, what policies know, transfer's ns.

    Queues and lockstep; `kind` is one of KINDS.
    """
    workload = draw(workloads(max_experts=6))
    config = draw(settings(workload.experts, **given))
    if draw(st.booleans()):
        config = in_lockstep(config, draw(st.sampled_from([None, 1, 2, 3])))
    if kind == "resident":
        return workload, config, draw(costs())
    config = replace(config, memory=draw(memories(workload, config.devices, MASKED if kind == "masked" else LOADING)))
    if kind == "masked":
        workload = draw(with_candidates(workload))
    return workload, config, draw(costs()), draw(knowledge(workload)), draw(st.none() | st.sampled_from([0, 3, 60]))


def in_lockstep(config, max_step):
    """Return a configuration with lockstep in place of queues."""
    plain = {"queue_size": 1, "dense_queue_size": None, "timeout_ns": None}
    return replace(config, scheduler="lockstep", max_step=max_step, **plain)


@st.composite
def memories(draw, workload, devices, handlings):
    """Draw a memory with one of these handlings of a miss that suits a workload on some devices."""
    miss = draw(st.sampled_from(handlings))
    caches = [name for name in sorted(CACHES) if miss not in MASKED or not needs_loading(name)]
    cache = draw(st.sampled_from(caches))
    prefetch = draw(st.sampled_from(sorted(set(PREFETCHERS) - ({"oracle"} if miss in MASKED else set()))))
    period = draw(st.none() | st.integers(1, 3)) if miss in MASKED and cache == "importance" else None
    scope, look_ahead = draw(st.sampled_from(["layer", "global"])), draw(st.sampled_from([1, 2, 3, 40]))
    return MemoryConfig(
        cache=cache, slots=draw(slots_of(workload, devices, scope)), scope=scope, miss=miss,
        prefetch=prefetch, look_ahead=look_ahead if prefetch == "oracle" else 1, period=period,
        filled=miss in ("host", *MASKED) or draw(st.booleans()), link=draw(st.sampled_from(LINKS)),
        link_latency_ns=draw(st.sampled_from([0, 1, 5, 40])), link_bytes_per_s=1e12,
        asks=draw(st.sampled_from(["stage", "turn"])) if miss == "load" else "stage",
        host_factor=draw(st.sampled_from([0.5, 1.5])) if miss == "host" else 1.0,
    )  # fmt: skip


@st.composite
def slots_of(draw, workload, devices, scope):
    """Draw the slots of a scope's caches, up to the experts of the device that has most: so more than others have."""
    most = -(-workload.experts // devices)
    if scope == "global":
        return draw(st.integers(1, most * workload.layers))
    several = st.lists(st.integers(1, most), min_size=workload.layers, max_size=workload.layers).map(tuple)
    return draw(st.integers(1, most) | several)


@st.composite
def knowledge(draw, workload):
    """Draw what policies know beforehand, with ties."""
    keys = workload.layers * workload.experts
    worth = st.lists(st.integers(0, 3), min_size=keys, max_size=keys)
    norms = draw(st.none() | st.lists(st.sampled_from([0.5, 1.0, 3.0]), min_size=keys, max_size=keys))
    return Known(draw(worth), draw(worth), norms)


@st.composite
def with_candidates(draw, workload):
    """Return a workload whose tokens have further candidates behind those that they select, with scores and norms."""
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    T, L, K = workload.experts_TLK.shape
    more = draw(st.integers(0, workload.experts - K))
    ranked = np.full((T, L, K + more), -1, np.int16)
    for row in range(T):
        for layer in range(L):
            chosen = workload.experts_TLK[row, layer]
            others = rng.permutation(np.setdiff1d(np.arange(workload.experts), chosen))[:more]
            ranked[row, layer, :K] = chosen
            ranked[row, layer, K : K + len(others)] = others
    scores = rng.choice(np.float32([0.1, 0.2, 0.25, 0.7]), ranked.shape)
    norms = rng.choice(np.float32([0.3, 1.0, 2.5]), (T, L)) if draw(st.booleans()) else None
    return replace(workload, candidates_TLK=ranked, scores_TLK=scores, norm_TL=norms)
