"""Intervals cover as often as they say, and rows say where their interval comes from."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from moe_replay.analysis.estimates.intervals import half_width, mean_interval
from moe_replay.analysis.estimates.replications import by_configuration, combined
from moe_replay.traces.runs.run_statistics import run_statistics


def test_interval_is_the_t_interval():
    values = np.array([3.0, 5.0, 4.0, 8.0])
    low, high = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    found = mean_interval(values)
    assert (found.low, found.mean, found.high) == pytest.approx((low, 5.0, high))


def test_too_few_values_have_no_interval():
    assert np.isnan(half_width(np.array([1.0])))
    assert np.isnan(mean_interval(np.array([])).mean)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_coverage_over_replications(count):
    rng = np.random.default_rng(count)
    draws = rng.normal(7, 2, (4000, count))
    covered = sum(low <= 7 <= high for _, low, high in map(mean_interval, draws))
    assert abs(covered / 4000 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 4000)


def test_replications_become_one_row(one_at_a_time):
    runs = [run_statistics(one_at_a_time(slower=slower, seed=seed)) for seed, slower in enumerate((1, 2, 1))]
    assert [len(group) for group in by_configuration(runs)] == [3]
    row = combined(runs)
    assert row["replications"] == 3
    assert row["interval"] == "t over 3 replications"
    assert row["latency_p50_ms"] == pytest.approx(40 / 3)
    half = stats.t.ppf(0.975, 2) * stats.sem([10, 20, 10])
    assert row["latency_p50_ms_high"] - row["latency_p50_ms"] == pytest.approx(half)


def test_one_replication_uses_batch_means(one_at_a_time):
    row = combined([run_statistics(one_at_a_time())])
    assert row["interval"] == "t over batch means"
    assert row["latency_p50_ms_low"] == pytest.approx(10)


def test_a_run_of_few_passes_has_no_interval(one_at_a_time):
    row = combined([run_statistics(one_at_a_time(count=30))])
    assert row["interval"].startswith("none")
    assert np.isnan(row["throughput_per_s_low"])


def test_batch_means_cover_the_mean_of_independent_latencies(make_run):
    rng = np.random.default_rng(3)
    covered, trials = 0, 300
    for _ in range(trials):
        arrival = np.cumsum(rng.exponential(1.0, 400)) * 10
        end = arrival + rng.exponential(20, 400)
        run = make_run((arrival, arrival, end), [(0, 1, 1, 0, 0, 1)], arrivals="poisson", rate_per_s=100.0, seed=0)
        row = combined([run_statistics(run)])
        covered += row["latency_mean_ms_low"] <= 20 <= row["latency_mean_ms_high"]
    assert abs(covered / trials - 0.95) < 4 * np.sqrt(0.95 * 0.05 / trials)


def test_other_settings_are_other_rows(one_at_a_time):
    runs = [run_statistics(one_at_a_time(queue_size=size, seed=0)) for size in (1, 2, 1)]
    assert [len(group) for group in by_configuration(runs)] == [2, 1]


def test_one_unstable_replication_makes_the_row_unstable(one_at_a_time):
    fine = run_statistics(one_at_a_time())
    bad = replace(fine, status="unstable", reason="arrivals outrun it", values_of="whole run")
    row = combined([fine, bad])
    assert row["status"] == "unstable"
    assert np.isnan(row["latency_p50_ms"])
    assert np.isnan(row["latency_p50_ms_low"])
    assert row["throughput_per_s"] == pytest.approx(100)
