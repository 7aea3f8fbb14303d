"""Worlds of the size that the compiled engine is for: random traces, every token a sequence of its own."""

import numpy as np

from moe_replay.simulate.config.costs import affine
from moe_replay.simulate.config.workload import build_workload

L, E, K, B = 24, 64, 4, 16
COST = affine(20_000, 1_500)
ROWS_AT_ONCE = 1 << 14


def random_workload(selections, layers=L, experts=E, k=K):
    """Return a workload of about so many selections, drawn by blocks of rows, so that little memory is used twice."""
    tokens = max(1, selections // (layers * k))
    rng = np.random.default_rng(0)
    experts_TLK = np.empty((tokens, layers, k), np.int16)
    for first in range(0, tokens, ROWS_AT_ONCE):
        draw_distinct(experts_TLK[first : first + ROWS_AT_ONCE], experts, rng)
    ids = np.arange(tokens, dtype=np.int32)
    return build_workload(experts_TLK, ids, ids, experts)


def draw_distinct(chosen_TLK, experts, rng):
    """Fill in random experts, no two equal in a row: Floyd's method."""
    k = chosen_TLK.shape[2]
    for rank, last in enumerate(range(experts - k, experts)):
        drawn_TL = rng.integers(0, last + 1, chosen_TLK.shape[:2], dtype=np.int16)
        drawn_TL[(drawn_TL[:, :, None] == chosen_TLK[:, :, :rank]).any(axis=2)] = last
        chosen_TLK[:, :, rank] = drawn_TL


def assert_complete(records, workload):
    """Every pass ended, after it had begun, and the batches of experts served every selection once."""
    passes, batches = records.passes, records.batches
    assert len(passes["end_ns"]) == workload.passes
    assert (passes["end_ns"] >= passes["start_ns"]).all()
    assert (passes["start_ns"] >= 0).all()
    served = int(batches["size"][batches["block"] > 0].sum())
    assert served == int((workload.experts_TLK >= 0).sum())
