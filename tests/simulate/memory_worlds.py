"""Worlds with expert memory, and what their runs leave, as text.

A transfer takes 7 ns, a batch 10 ns, unless a test says so; a transfer's line is `asked start-end key>slot`, with the
key that left behind `-` and `ahead` for a prefetch.
"""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st
from worlds import fixed, line, world

from moe_replay.simulate.config.memory_config import HANDLINGS, LINKS, MASKED, MemoryConfig
from moe_replay.simulate.engines.simpy_engine import Engine, order_of
from moe_replay.simulate.policies.caches.cache_names import CACHES
from moe_replay.simulate.policies.memory.memory_setup import Known
from moe_replay.simulate.policies.prefetchers.prefetcher_names import PREFETCHERS

TEN = fixed(10)


def memory(slots=1, cache="lru", **fields):
    """Return a memory whose transfers take 7 ns."""
    return MemoryConfig(cache=cache, slots=slots, **{"link_latency_ns": 6, "link_bytes_per_s": 1e9, **fields})


def played(workload, settings, cost=TEN, known=None):
    """Return the replay of a finished run."""
    if settings.memory.needs_order:
        known = replace(known or Known(), order=order_of(workload, settings, cost))
    engine = Engine(workload, settings, cost, known)
    engine.run()
    return engine.replay


def logs(workload, settings, cost=TEN, known=None):
    """Return the lines of the batches, with what they met, and those of the transfers."""
    replay = played(workload, settings, cost, known)
    batches = [f"{line(batch)} {'miss' if batch.hit == 0 else 'hit'}" for batch in replay.recording.batches]
    transfers = [
        f"{each.asked_ns} {each.start_ns}-{each.end_ns} {each.key}>{each.slot}"
        + (f" -{each.victim}" if each.victim >= 0 else "") + (" ahead" if each.prefetch else "")
        for each in replay.memory.transfers
    ]  # fmt: skip
    return batches, transfers


def masked_world(candidates, k, scores, E):
    """Return a workload of one layer whose tokens have these candidates with these scores, of which k are selected."""
    plain = world([[row[:k]] for row in candidates], E)
    ranked_TLK = np.array(candidates, np.int16)[:, None, :]
    return replace(plain, candidates_TLK=ranked_TLK, scores_TLK=np.array(scores, np.float32)[:, None, :])


@st.composite
def memories(draw, workload, devices=1):
    """Draw a memory that suits a workload."""
    miss = draw(st.sampled_from([each for each in HANDLINGS if each not in MASKED]))
    prefetch = draw(st.sampled_from(sorted(PREFETCHERS)))
    scope = draw(st.sampled_from(["layer", "global"]))
    # every device has to have that many experts: contiguous placement gives each at least E // devices per layer
    most = max(1, workload.experts // devices)
    return MemoryConfig(
        cache=draw(st.sampled_from(sorted(CACHES))), slots=draw(st.integers(1, most)), scope=scope, miss=miss,
        prefetch=prefetch, look_ahead=draw(st.integers(1, 3)) if prefetch == "oracle" else 1,
        filled=miss == "host" or draw(st.booleans()), link=draw(st.sampled_from(LINKS)),
        link_latency_ns=draw(st.sampled_from([0, 1, 5, 40])), link_bytes_per_s=1e12,
        asks=draw(st.sampled_from(["stage", "turn"])) if miss == "load" else "stage",
    )  # fmt: skip


def with_candidates(workload, draws):
    """Return the workload with every expert a candidate: those selected first, then the others in any order."""
    k, rows = workload.experts_TLK.shape[2], []
    for selected in workload.experts_TLK.reshape(-1, k):
        others = [each for each in draws.permutation(workload.experts) if each not in selected]
        rows.append([*selected, *others, *[-1] * (workload.experts - len(others))])
    candidates_TLK = np.array(rows, np.int16).reshape(*workload.experts_TLK.shape[:2], -1)
    scores_TLK = np.where(candidates_TLK >= 0, draws.random(candidates_TLK.shape), 0).astype(np.float32)
    return replace(workload, candidates_TLK=candidates_TLK, scores_TLK=scores_TLK)
