"""Statistics of hand-made runs with known answers, and windows that do not favour quick passes."""

import heapq

import numpy as np
import pytest
from scipy import stats

from moe_replay.traces.runs.run_statistics import run_statistics
from moe_replay.traces.runs.run_window import Window, measured_window
from moe_replay.traces.runs.served_sequences import served_sequences
from moe_replay.traces.runs.throughput import throughput_parts

MS = 1_000_000


def test_one_at_a_time(one_at_a_time):
    found = run_statistics(one_at_a_time())
    values = found.values
    assert found.status == "ok"
    assert values["throughput_per_s"] == pytest.approx(100)
    for name in ("latency_mean_ms", "latency_p50_ms", "latency_p95_ms", "latency_p99_ms"):
        assert values[name] == pytest.approx(10)
    assert values["utilisation"] == pytest.approx(1)
    assert values["little"] == pytest.approx(1)
    assert values["fill_expert"] == values["fill_dense"] == 1
    assert values["forced_batches"] == values["forced_selections"] == values["ready_wait_ms"] == 0
    assert values["capacity_per_s"] == pytest.approx(100)
    # 100 passes: the 16th arrives at 150 ms, the last at 990: 84 passes in two queues of equal load.
    assert values["window_s"] == pytest.approx(0.84)
    assert values["batches_per_busy_queue"] == 42
    assert found.parts["throughput_per_s"] == pytest.approx(np.full(10, 100), rel=0.2)


def test_fill_forced_and_waiting(make_run):
    """Two expert batches of B=4 in turn: a full one, ready 1 ms before it starts, and a forced one of 2."""
    arrival = np.arange(40) * 10
    batches = []
    for p in range(0, 40, 2):
        batches.append((0, 1, 4, p * 10 + 1, p * 10 + 2, p * 10 + 5))
        batches.append((0, 1, 2, p * 10 + 12, p * 10 + 12, p * 10 + 14, True))
    values = run_statistics(make_run((arrival, arrival + 2, arrival + 5), batches, queue_size=4)).values
    assert values["fill_expert"] == pytest.approx(0.75, abs=0.02)
    assert values["forced_batches"] == pytest.approx(0.5, abs=0.03)
    assert values["forced_selections"] == pytest.approx(1 / 3, abs=0.03)
    assert values["ready_wait_ms"] == pytest.approx(0.5, abs=0.03)
    assert values["utilisation"] == pytest.approx(0.25, abs=0.02)
    assert values["entry_wait_ms"] == pytest.approx(2)
    # 4 selections per 3 ms at full batches, 3 selections per pass (120 over 40 passes).
    assert values["capacity_per_s"] == pytest.approx(1000 / (3 * 3 / 4))


def poisson_run(make_run, gap_ms, service_ms, count=200):
    """Arrivals at fixed gaps and one server of fixed service, first in first out."""
    arrival = np.arange(count) * gap_ms
    end = np.zeros(count)
    for p in range(count):
        end[p] = max(arrival[p], end[p - 1] if p else 0) + service_ms
    rows = [(0, 1, 1, arrival[p], end[p] - service_ms, end[p]) for p in range(count)]
    config = {"arrivals": "poisson", "rate_per_s": 1000 / gap_ms, "load": 0.5, "seed": 0, "sequences": count}
    return make_run((arrival, end - service_ms, end), rows, **config)


def test_a_stable_open_run_has_a_latency(make_run):
    found = run_statistics(poisson_run(make_run, gap_ms=4, service_ms=2))
    assert found.status == "ok"
    assert found.values["latency_p99_ms"] == pytest.approx(2)
    assert found.values["utilisation"] == pytest.approx(0.5, abs=0.01)
    assert found.values["offered_load"] == pytest.approx(0.5)
    assert found.values["drain_share"] == 0


def test_an_unstable_run_has_throughput_and_no_latency(make_run):
    found = run_statistics(poisson_run(make_run, gap_ms=2, service_ms=3))
    assert found.status == "unstable"
    assert "1.50 of the capacity" in found.reason
    assert np.isnan(found.values["latency_p50_ms"])
    assert set(found.parts) == {"throughput_per_s"}
    assert found.values["throughput_per_s"] == pytest.approx(1000 / 3, rel=0.02)


def test_instability_shows_without_a_single_full_batch(make_run):
    """B is 2, every batch holds 1 (a time-out, say): the capacity at full batches is unknown, the backlog is not."""
    run = poisson_run(make_run, gap_ms=2, service_ms=3, count=1000)
    run.header["config"]["queue_size"] = 2
    found = run_statistics(run)
    assert found.status == "unstable"
    assert "stay in flight" in found.reason


def open_world(make_run, rng, count=600):
    """Poisson arrivals to infinitely many servers; exponential latencies with a mean of 5 % of the run."""
    arrival = np.cumsum(rng.exponential(10, count))
    end = arrival + rng.exponential(0.05 * count * 10, count)
    config = {"arrivals": "poisson", "rate_per_s": 100.0, "seed": 0}
    return make_run((arrival, arrival, end), [(0, 1, 1, 0, 0, 1)], **config), 0.05 * count * 10


def closed_world(make_run, rng, count=600, in_flight=30, mean_ms=300):
    """A closed loop with infinitely many servers: every end releases the next pass."""
    running = [(rng.exponential(mean_ms), 0.0) for _ in range(in_flight)]
    heapq.heapify(running)
    done = []
    while running:
        end, arrival = heapq.heappop(running)
        done.append((arrival, end))
        if len(done) + len(running) < count:
            heapq.heappush(running, (end + rng.exponential(mean_ms), end))
    arrival, end = np.array(sorted(done)).T
    return make_run((arrival, arrival, end), [(0, 1, 1, 0, 0, 1)], in_flight=in_flight), mean_ms


@pytest.mark.parametrize("world", [open_world, closed_world])
def test_the_window_does_not_favour_quick_passes(world, make_run):
    rng = np.random.default_rng(1)
    pairs = [world(make_run, rng) for _ in range(60)]
    means = np.array([run_statistics(run).values["latency_mean_ms"] for run, _ in pairs])
    half_width = stats.t.ppf(0.9995, len(means) - 1) * stats.sem(means)
    assert abs(means.mean() - pairs[0][1]) < half_width
    assert half_width < 0.05 * pairs[0][1]  # wide intervals prove nothing


def test_choosing_passes_that_arrive_and_end_in_the_window_would_be_biased(make_run):
    """The test above can fail: the choice that the window avoids fails it."""
    rng = np.random.default_rng(1)
    means = []
    for _ in range(60):
        run, mean_ms = open_world(make_run, rng)
        window, passes = measured_window(run, served_sequences(run.passes)), run.passes
        both = window.holds(passes["arrival_ns"]) & window.holds(passes["end_ns"])
        means.append((passes["end_ns"] - passes["arrival_ns"])[both].mean() / MS)
    assert np.mean(means) + stats.t.ppf(0.9995, 59) * stats.sem(means) < mean_ms


@pytest.mark.parametrize(("count", "status", "remark"), [(400, "short", True), (570, "ok", True), (3000, "ok", False)])
def test_a_short_run_says_so(make_run, count, status, remark):
    """300 passes are released at once into one server: the first 300 to end have not waited behind 299 others."""
    end = np.arange(1, count + 1) * 10
    arrival = np.concatenate([np.zeros(300), end[: count - 300]])
    found = run_statistics(make_run((arrival, arrival, end), [(0, 1, 1, 0, 0, 1)], in_flight=300))
    assert found.status == status
    assert ("throughput x latency" in found.reason) == remark
    assert found.values_of == ("whole run" if status == "short" else "window")
    if status == "short":
        assert found.values["latency_mean_ms"] == pytest.approx((end - arrival).mean())
    assert found.values["throughput_per_s"] == pytest.approx(100)


def test_all_at_once_measures_the_whole_run(make_run):
    run = make_run((np.zeros(4), np.zeros(4), np.arange(1, 5) * 10), [(0, 1, 1, 0, 0, 1)], arrivals="all")
    values = run_statistics(run).values
    assert values["throughput_per_s"] == pytest.approx(100)
    assert values["latency_mean_ms"] == pytest.approx(25)


def test_a_run_without_a_stretch_to_measure_is_given_as_a_whole(make_run):
    found = run_statistics(make_run(([0, 1], [0, 1], [1, 4]), [(0, 1, 1, 0, 0, 1)]))
    assert (found.status, found.values_of) == ("short", "whole run")
    assert found.values["throughput_per_s"] == pytest.approx(500)
    assert found.values["latency_mean_ms"] == pytest.approx(2)
    assert "2 sequences, none released after warm-up" in found.reason


def test_utilisation_is_per_device(make_run):
    arrival = np.arange(100) * 10
    spans = [(1, 0, 5, 0), (1, 5, 10, 0), (2, 0, 5, 1)]  # expert, from, to, device: device 0 runs two batches a pass
    rows = [(0, expert, 1, t, t + a, t + b, False, 0, device) for t in arrival for expert, a, b, device in spans]
    values = run_statistics(make_run((arrival, arrival, arrival + 10), rows, devices=2)).values
    assert values["utilisation_max"] == pytest.approx(1)
    assert values["utilisation"] == pytest.approx(0.75)
    assert values["capacity_per_s"] == pytest.approx(100)  # the busier device sets it


def test_bunches_do_not_blur_the_interval(make_run):
    """64 passes leave together every 10 ms, released in bunches too: every part has the same rate."""
    end = np.repeat(np.arange(1, 101) * 10, 64)
    arrival = np.concatenate([np.zeros(128), end[:-128]])
    found = run_statistics(make_run((arrival, arrival, end), [(0, 1, 1, 0, 0, 1)], in_flight=128))
    assert found.values["throughput_per_s"] == pytest.approx(6400)
    assert found.parts["throughput_per_s"] == pytest.approx(np.full(10, 6400))


def test_throughput_parts_hold_enough_instants():
    passes = {"end_ns": np.repeat(np.arange(25) * 1_000_000_000, [9, *[1] * 6, *[2] * 6, *[3] * 6, *[4] * 6])}
    window = Window(0, 24_000_000_000, "end")
    assert throughput_parts(passes, window, 10).tolist() == [1, 2, 3, 4]
    assert len(throughput_parts(passes, Window(0, 19_000_000_000, "end"), 10)) == 0


def test_far_overload_is_measured_where_it_saturates(make_run):
    """Everything arrives before the first end: the arrivals' window holds no completion, the run still has a rate."""
    count = 100
    arrival, end = np.arange(count) * 0.01, np.arange(1, count + 1) * 10
    rows = [(0, 1, 1, arrival[p], end[p] - 10, end[p]) for p in range(count)]
    run = make_run((arrival, end - 10, end), rows, arrivals="poisson", rate_per_s=100_000.0, seed=0)
    found = run_statistics(run)
    assert found.status == "unstable"
    assert found.values["throughput_per_s"] == pytest.approx(100)
    assert found.values["utilisation"] == pytest.approx(1)
