"""Renaming experts permutes what happens and changes no aggregate, but for ties that go by an expert's number."""

from dataclasses import replace

import numpy as np
import pytest
from worlds import config, fixed

from simulate.compiled.run import simulate
from simulate.policies.memory.config import HANDLINGS, MASKED, MemoryConfig
from simulate.policies.memory.known import Known
from simulate.policies.memory.named import CACHES
from simulate.policies.workload import build_workload

E, L, T = 16, 2, 160
SCHEDULERS = pytest.mark.parametrize("scheduler", [{"scheduler": "lockstep"}, {"queue_size": 1}], ids=str)
# Members of one stage are accessed at one instant, ascending: who of them was used last, and so who leaves later, hangs
# on their numbers. Under `block` they also run in this order, and one that is absent may displace one that runs later;
# under `load` they ask in it, and one that is declined holds up those behind it while another is let through.
# Policies that are free of it, by handling; every policy is where nothing is loaded (`host`).
FREE_OF_ASCENDING_WITHIN_A_STAGE = {"load": {"none"}, "block": {"none", "static"}}


def worlds(k, together=1):
    """Return [(workload, what is known)]: one world under five namings, two of them by popularity.

    `together` sequences take turns; a token selects k of the 16 experts, popular ones more often.
    """
    rng = np.random.default_rng(3)
    weight_E = rng.dirichlet(np.full(E, 0.5)) + 1e-3
    chosen = [rng.choice(E, k, replace=False, p=weight_E / weight_E.sum()) for _ in range(T * L)]
    experts_TLK = np.array(chosen).reshape(T, L, k)
    loads = [np.bincount(experts_TLK[:, layer].ravel(), minlength=E) for layer in range(L)]
    worth_LE = np.stack(loads) + rng.permutation(E) / E  # no two alike
    namings = [[rng.permutation(E) for _ in range(L)] for _ in range(3)]
    namings += [[np.argsort(np.argsort(sign * worth)) for worth in worth_LE] for sign in (1, -1)]
    return [renamed(experts_TLK, worth_LE, naming, together) for naming in namings]


def renamed(experts_TLK, worth_LE, naming, together):
    """Return a world in which expert e of a layer bears the name naming[layer][e]."""
    new_TLK = np.stack([naming[layer][experts_TLK[:, layer]] for layer in range(L)], 1).astype(np.int16)
    new_LE = np.zeros((L, E))
    for layer in range(L):
        new_LE[layer, naming[layer]] = worth_LE[layer]
    sequence_T, step_T = np.arange(T) % together, np.arange(T) // together
    workload = build_workload(new_TLK, sequence_T.astype(np.int32), step_T.astype(np.int32), E)
    scores_TLK = np.ones(new_TLK.shape, np.float32)
    return replace(workload, candidates_TLK=new_TLK, scores_TLK=scores_TLK), Known(*[new_LE.ravel().tolist()] * 2)


def aggregates(made, scheduler, in_flight=1, **memory):
    """Return [makespan, passes' latencies in order of size, counts, batches on the host] of a run in every world."""
    filled = memory["miss"] in ("host", *MASKED)
    kept = MemoryConfig(slots=6, filled=filled, link_latency_ns=700, link_bytes_per_s=1e12, **memory)
    run = config(**scheduler, arrivals="closed", in_flight=in_flight, memory=kept)
    found = []
    for workload, known in made:
        records = simulate(workload, run, fixed(1000), {"config": {}}, known)
        passes, batches = records.passes, records.batches
        took = sorted((passes["end_ns"] - passes["arrival_ns"]).tolist())
        on_host = int((batches["device"] == 1).sum())
        found.append([int(passes["end_ns"].max()), took, records.header["memory"], on_host])
    return found


def combinations():
    """Return every (handling, cache policy) that means something."""
    return [
        (miss, cache) for miss in HANDLINGS for cache in CACHES
        if not (miss in MASKED and cache in ("none", "belady", "belady-bypass"))
    ]  # fmt: skip


@SCHEDULERS
@pytest.mark.parametrize(("miss", "cache"), combinations())
def test_without_ties_no_aggregate_changes(scheduler, miss, cache):
    first, *others = aggregates(worlds(1), scheduler, miss=miss, cache=cache)
    assert all(other == first for other in others)


@SCHEDULERS
@pytest.mark.parametrize("cache", CACHES)
def test_on_a_host_no_aggregate_changes_with_ties_either(scheduler, cache):
    first, *others = aggregates(worlds(4), scheduler, miss="host", cache=cache, host_factor=3.0)
    assert first[3] > 0
    assert all(other == first for other in others)


def test_on_a_host_no_aggregate_of_many_passes_in_lockstep_changes():
    first, *others = aggregates(worlds(4, 8), {"scheduler": "lockstep"}, 8, miss="host", host_factor=3.0)
    assert all(other == first for other in others)


@SCHEDULERS
@pytest.mark.parametrize("miss", ["load", "block"])
@pytest.mark.parametrize("cache", CACHES)
def test_where_ties_go_by_number_makespans_differ_by_what_they_displace_only(scheduler, miss, cache):
    first, *others = aggregates(worlds(4), scheduler, miss=miss, cache=cache)
    if cache in FREE_OF_ASCENDING_WITHIN_A_STAGE[miss]:
        assert all(other == first for other in others)
    apart = max(abs(other[0] / first[0] - 1) for other in others)
    hits = max(
        abs(other[2]["hits"] / other[2]["accesses"] - first[2]["hits"] / first[2]["accesses"]) for other in others
    )
    assert apart <= 0.03
    assert hits <= 0.1
