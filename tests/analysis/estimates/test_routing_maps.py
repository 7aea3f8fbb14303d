"""Maps of routing beside their controls, of traces whose load and drift are known."""

from dataclasses import replace

import numpy as np
import pytest

from moe_replay.analysis.estimates.routing_maps import drift_map, load_map
from moe_replay.traces.new_traces import trace_from_arrays

TOKENS = 4800


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def trace_of(expert_TL, experts):
    """A trace with one expert per token and layer."""
    array = np.asarray(expert_TL, np.int16)[:, :, None]
    return trace_from_arrays(array, [0, len(array)], experts=experts, phase="prefill", ranked=True)


def test_load_over_the_mean_and_a_control_without_skew(rng):
    hot = np.where(
        np.arange(TOKENS) % 2 == 0, 3, np.arange(TOKENS) // 2 % 8
    )  # expert 3: half, and an eighth of the rest
    even = np.arange(TOKENS) % 8
    found = load_map(trace_of(np.stack([hot, even], 1), 8), rng)
    assert found.recorded_LE[0] == pytest.approx([0.5, 0.5, 0.5, 4.5, 0.5, 0.5, 0.5, 0.5])
    assert found.recorded_LE[1] == pytest.approx(np.ones(8))
    assert found.drawn_LE.mean(1) == pytest.approx(np.ones(2))
    assert abs(found.drawn_LE - 1).max() < 5 * np.sqrt(7 / TOKENS)  # five deviations of a share of one eighth
    assert (found.drawn_LE != found.recorded_LE).any()


def test_drift_is_told_from_noise(rng):
    """The first half uses experts 0..3, the second 4..7: half of each part would have to move."""
    half = np.where(np.arange(TOKENS) < TOKENS // 2, 0, 4)
    trace = trace_of((half + rng.integers(0, 4, TOKENS))[:, None], 8)
    found = drift_map(trace, 0, rng)
    assert found.recorded_BE.shape == (24, 8)
    assert (found.recorded_BE[:12, 4:] == 0).all()
    assert (found.recorded_BE[12:, :4] == 0).all()
    assert found.moved == pytest.approx(0.5, abs=0.05)
    assert found.moved_shuffled < 0.12
    # Few tokens: a part for each, and nothing breaks.
    few = trace_of([[0], [1], [1]], 2)
    assert drift_map(few, 0, rng).recorded_BE.tolist() == [[2, 0], [0, 2], [0, 2]]


def test_a_layer_without_routes_is_empty(rng):
    trace = trace_of(np.zeros((6, 2), int), 2)
    experts_TLK = trace.experts_TLK.copy()
    experts_TLK[:, 1] = -1
    found = load_map(replace(trace, experts_TLK=experts_TLK), rng)
    assert np.isnan(found.recorded_LE[1]).all()
    assert found.recorded_LE[0].tolist() == [2, 0]
