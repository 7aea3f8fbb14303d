"""Seconds for placements over time: 501 points x 24 layers x 32 experts on 8 devices, beside a plain Python form.

    python -m pytest tests/benchmarks/test_rebalance_speed.py -o addopts="" --benchmark-columns=min,median,rounds -s

Target: under 20 s with devices renamed, and under 20 s with the clairvoyant for one cost of a move. The plain form
works through a single layer, so its seconds are multiplied by the layers. A slow or busy machine fails nothing here;
another result than the plain form's does.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "simulate" / "rebalancing"))

from plain_rebalancing import plain_replay

from moe_replay.simulate.placing.cluster_shape import shape_for
from moe_replay.simulate.rebalancing.load_points import LoadPoints
from moe_replay.simulate.rebalancing.rebalance_rows import Asked, Moving, rebalance_rows
from moe_replay.simulate.rebalancing.replay import RebalanceRule, replay

POINTS, LAYERS, EXPERTS, DEVICES = 501, 24, 32, 8


@pytest.fixture(scope="module")
def points():
    """Loads whose popularity drifts: a random walk of each expert's logarithm."""
    rng = np.random.default_rng(0)
    walk_SLE = np.cumsum(rng.normal(0, 0.1, (POINTS, LAYERS, EXPERTS)), axis=0) + rng.normal(0, 1, (LAYERS, EXPERTS))
    load_SLE = np.round(1000 * np.exp(walk_SLE)).astype(np.int64) + 1
    return LoadPoints(
        name="drift", phase="all", load_SLE=load_SLE, number_S=np.arange(POINTS), layer_ids=tuple(range(LAYERS))
    )


def test_replay(benchmark, points):
    shape, rule = shape_for(EXPERTS, DEVICES), RebalanceRule("smartmoe", 1, 1, 1.0)
    made = benchmark.pedantic(replay, (points, shape, rule), rounds=3, warmup_rounds=1)
    started = time.process_time()
    balance, adoptions, moved = plain_replay(points.load_SLE[:, 0].tolist(), DEVICES, 1, 1.0, staying=True)
    plain_s = (time.process_time() - started) * LAYERS
    np.testing.assert_allclose(made.over_mean_SL[:, 0], balance)
    assert (made.adopted_SL[:, 0].sum(), made.copies_SL[:, 0].sum()) == (adoptions, moved)
    started = time.process_time()
    replay(points, shape, rule)
    ratio = plain_s / (time.process_time() - started)
    benchmark.extra_info.update(ratio=round(ratio, 1), plain_s=round(plain_s, 2))
    print(f"\nplain form of all layers {plain_s:.2f} s of CPU, {ratio:.1f} times as many")


@pytest.mark.parametrize("move_costs", [(), (0.01,)], ids=["renamed", "clairvoyant"])
def test_the_whole_command(benchmark, points, move_costs):
    rules = (RebalanceRule("lpt", 1, 1, 1.0), RebalanceRule("lpt", 1, 1, 1.0, relabel=True))
    asked = Asked(rules, DEVICES, move_costs=move_costs)
    found = benchmark.pedantic(rebalance_rows, ([points], asked, Moving(1, 1.0, 1)), rounds=1)
    assert [row["points"] for row in found.rows] == [POINTS] * 7
    assert len(found.regret) == 2 * len(move_costs)
    assert found.rows[-1]["copies_per_layer"] <= found.rows[-2]["copies_per_layer"]
    print(f"\n{benchmark.stats.stats.median:.1f} s, target 20 s")
