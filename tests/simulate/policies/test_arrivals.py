"""Arrival processes: what is due by itself, and what is released by whom."""

import numpy as np
import pytest
from worlds import world

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.arrivals import ARRIVALS, poisson_times_ns


def singles(count):
    return world([[[0]]] * count, 1)


def two_passes_each(sequences):
    """Sequences of two passes; passes 2g and 2g+1 belong to sequence g."""
    tokens = 2 * sequences
    return world([[[0]]] * tokens, 1, [*range(sequences)] * 2, [0] * sequences + [1] * sequences)


def test_all_at_once_gives_every_first_pass_at_zero():
    arrivals = ARRIVALS["all"](two_passes_each(3), RunConfig())
    assert arrivals.next_ns == 0
    assert arrivals.due(0) == [0, 2, 4]
    assert arrivals.next_ns is None
    assert arrivals.due(10) == []


def test_released_passes_come_in_workload_order_whatever_order_their_causes_finish_in():
    arrivals = ARRIVALS["all"](two_passes_each(3), RunConfig())
    assert arrivals.after([4, 0]) == [1, 5]
    assert arrivals.after([5, 1]) == []


def test_a_closed_loop_follows_a_pass_with_the_sequences_next_and_its_last_with_the_next_sequence():
    arrivals = ARRIVALS["closed"](two_passes_each(4), RunConfig(arrivals="closed", in_flight=2))
    assert arrivals.due(0) == [0, 2]
    assert arrivals.after([2]) == [3]
    assert arrivals.after([3, 0]) == [1, 4]
    assert arrivals.after([1]) == [6]
    assert arrivals.after([5]) == []


def test_a_closed_loop_larger_than_the_workload_holds_nothing_back():
    arrivals = ARRIVALS["closed"](singles(2), RunConfig(arrivals="closed", in_flight=5))
    assert arrivals.due(0) == [0, 1]
    assert arrivals.after([0, 1]) == []


def test_the_next_step_is_released_by_the_last_pass_of_a_step():
    arrivals = ARRIVALS["steps"](two_passes_each(2), RunConfig(arrivals="steps"))
    assert arrivals.due(0) == [0, 2]
    assert arrivals.after([2]) == []
    assert arrivals.after([0]) == [1, 3]


def test_the_steps_of_a_cycled_trace_go_on_with_the_next_round():
    cycled = world([[[0]]] * 2, 1, sequence=[0, 1], step=[7, 8], sequences=4)
    arrivals = ARRIVALS["steps"](cycled, RunConfig(arrivals="steps"))
    assert arrivals.due(0) == [0]
    assert [arrivals.after([p]) for p in range(4)] == [[1], [2], [3], []]


def poisson(count, rate_per_s, seed):
    config = RunConfig(arrivals="poisson", rate_per_s=rate_per_s, seed=seed)
    return ARRIVALS["poisson"](singles(count), config).times_ns


def test_poisson_times_are_whole_ascending_and_fall_due_in_order():
    times = poisson(50, 1e3, seed=0)
    assert all(isinstance(moment, int) for moment in times)
    assert times == sorted(times)
    arrivals = ARRIVALS["poisson"](singles(50), RunConfig(arrivals="poisson", rate_per_s=1e3, seed=0))
    assert arrivals.next_ns == times[0]
    assert arrivals.due(times[0] - 1) == []
    assert arrivals.due(times[9]) == list(range(10))
    assert arrivals.next_ns == times[10]


def test_one_seed_gives_one_stream_of_gaps_scaled_by_the_rate():
    slow, fast = np.array(poisson(200, 1e3, seed=1)), np.array(poisson(200, 4e3, seed=1))
    assert np.abs(slow - 4 * fast).max() <= 4 * 200  # each gap is rounded once, to a whole ns
    assert poisson(200, 1e3, seed=2) != slow.tolist()


def test_arrivals_do_not_depend_on_the_permutation():
    config = RunConfig(arrivals="poisson", rate_per_s=1e6, seed=3)
    permuted = world([[[0]]] * 50, 1, rng=config.generator("sequences"))
    assert ARRIVALS["poisson"](permuted, config).times_ns == poisson(50, 1e6, seed=3)


def test_poisson_gaps_have_the_mean_and_the_variance_of_an_exponential():
    gaps_s = np.diff(poisson_times_ns(100_000, 50.0, np.random.default_rng(0)), prepend=0) / 1e9
    assert gaps_s.mean() == pytest.approx(1 / 50, rel=4 / 100_000**0.5)  # four standard errors
    assert gaps_s.var() == pytest.approx(1 / 2500, rel=4 * (8 / 100_000) ** 0.5)
