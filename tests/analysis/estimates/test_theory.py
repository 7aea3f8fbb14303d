"""Theory of a whole model: against hand results, draws of the same assumptions, and the engine where both are exact."""

import numpy as np
import pytest
from scipy import stats

from moe_replay.analysis.estimates.closed_forms import fill_wait
from moe_replay.analysis.estimates.queue_theory import (
    dense_stage,
    expert_stage,
    latency_without_contention_ms,
    routing_of,
    sum_quantiles,
    theory_row,
)
from moe_replay.simulate.config.costs import affine
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.traces.runs.cost_table import COST_COLUMNS, CostTable


def table(dense_layers, dense_ns, expert_ns, sizes=(1, 2, 4, 8, 16, 32, 64, 128)):
    rows = [(layer, 0, n, 0, dense_ns(n)) for layer in range(dense_layers) for n in sizes]
    rows += [(0, 1, n, 0, expert_ns(n)) for n in sizes]
    columns = np.array(rows, dtype=np.int64).T
    named = {name: column.astype(dtype) for (name, dtype), column in zip(COST_COLUMNS.items(), columns, strict=True)}
    return CostTable(named, {"device": "toy"})


def test_routing_counts_sets_whatever_their_order():
    experts_TLK = np.array([[[0, 1]], [[1, 0]], [[2, -1]], [[0, 1]]], dtype=np.int16)
    routing = routing_of(experts_TLK, 3)
    assert sorted(zip(routing.share_LC[0], routing.member_LCE[0].tolist(), strict=True)) == [
        (0.25, [0, 0, 1]),
        (0.75, [1, 1, 0]),
    ]
    assert routing.k == pytest.approx(1.75)


@pytest.mark.parametrize("batch", [2, 16, 128])
def test_one_expert_per_token_waits_for_its_own_queue(batch):
    share_C, member_CE = np.array([0.75, 0.25]), np.eye(2)
    found = expert_stage(10.0, batch, 0.0, share_C, member_CE)
    # A quarter of the tokens waits (B-1)/(2*2.5), three quarters (B-1)/(2*7.5): together (B-1)/10.
    assert found.mean_wait_s == pytest.approx((batch - 1) / 10, rel=2e-3)


def test_the_longest_of_two_waits_by_hand():
    """B=2: each wait is 0 or Exp(rate), evenly: E[max] = (2/4 + 1.5/4) / rate."""
    found = expert_stage(10.0, 2, 0.0, np.array([1.0]), np.array([[1.0, 1.0]]))
    assert found.mean_wait_s == pytest.approx(0.875 / 10, rel=2e-3)


@pytest.mark.parametrize("batch", [1, 8, 64])
def test_sum_of_stages_against_draws_of_the_same_assumptions(batch):
    rng = np.random.default_rng(batch)
    parts = [dense_stage(100.0, batch, 0.001) for _ in range(3)]
    parts.append(expert_stage(100.0, batch, 0.002, np.array([1.0]), np.array([[1.0, 1.0]])))
    draws = 0.005 + (rng.gamma(rng.integers(0, batch, (40_000, 3))) / 100).sum(axis=1)
    draws += (rng.gamma(rng.integers(0, batch, (40_000, 2))) / 100).max(axis=1)
    expected = np.percentile(draws, (50, 95))
    assert sum_quantiles(parts, (0.50, 0.95)) == pytest.approx(expected, rel=0.015)
    mean_s = sum(part.mean_wait_s + part.service_s for part in parts)
    assert mean_s == pytest.approx(draws.mean(), rel=0.01)


def test_the_engine_agrees_where_the_theory_is_exact():
    """One layer, no dense part, one expert per token, almost no service: a pass waits for its batch to fill."""
    rng, rate_per_s, batch = np.random.default_rng(0), 1000.0, 8
    experts_TLK = rng.integers(0, 4, (4000, 1, 1)).astype(np.int16)
    means = []
    for seed in range(12):
        config = RunConfig(queue_size=batch, arrivals="poisson", rate_per_s=rate_per_s, seed=seed, dense=False)
        steps = np.zeros(4000, np.int32)
        workload = build_workload(experts_TLK, np.arange(4000, dtype=np.int32), steps, 4)
        passes = simulate(workload, config, affine(0, 1), {"source": "simulated", "config": {}}).passes
        inner = slice(400, 3600)  # leaves the start, and the batches that never fill, aside
        means.append((passes["end_ns"] - passes["arrival_ns"])[inner].mean() / 1e6)
    costs = table(0, None, lambda n: n)
    found = latency_without_contention_ms(costs, routing_of(experts_TLK, 4), rate_per_s, batch)["latency_mean_ms"]
    assert found == pytest.approx(fill_wait(batch, rate_per_s / 4) * 1e3, rel=2e-3)
    half_width = stats.t.ppf(0.9995, len(means) - 1) * stats.sem(means)
    assert abs(np.mean(means) - found) < half_width
    assert half_width < 0.05 * found


def test_capacity_and_stability():
    costs = table(2, lambda n: 1000, lambda n: 1000)  # every batch takes 1 us: 2 dense + 1 layer x 2 experts
    routing = routing_of(np.array([[[0, 1]]], dtype=np.int16), 2)
    closed = theory_row(costs, routing, {"arrivals": "closed", "queue_size": 4, "in_flight": 100.0})
    assert closed["throughput_per_s"] == pytest.approx(1e6)
    assert closed["latency_mean_ms"] == pytest.approx(0.1)  # Little
    point = {"arrivals": "poisson", "queue_size": 4, "rate_per_s": 0.5e6}
    assert theory_row(costs, routing, point)["status"] == "ok"
    beyond = theory_row(costs, routing, point | {"rate_per_s": 1e6})
    assert beyond["status"] == "unstable"
    assert "latency_mean_ms" not in beyond
