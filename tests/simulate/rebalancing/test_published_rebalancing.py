"""Right values of placements over time on published traces, worked out independently; skipped without the traces."""

import os
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.placing.cluster_shape import shape_for
from moe_replay.simulate.rebalancing.load_points import points_of_loads, read_points
from moe_replay.simulate.rebalancing.rebalance_rows import Asked, Moving, rebalance_rows
from moe_replay.simulate.rebalancing.replay import RebalanceRule, replay
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.importers.importer_names import import_files
from moe_replay.traces.importers.reading.import_source import Options

REAL = Path(os.environ.get("MOE_REPLAY_TRACES", Path(__file__).resolve().parents[4] / "shared" / "data" / "traces"))
needs_smartmoe = pytest.mark.skipif(not (REAL / "smartmoe/moe_trace").is_dir(), reason="needs SmartMoE's logs")
needs_law = pytest.mark.skipif(not (REAL / "deepseek-v2-lite/law.npz").is_file(), reason="needs the trace `law`")


@pytest.fixture(scope="module")
def smartmoe():
    return points_of_loads(import_files("smartmoe", [REAL / "smartmoe/moe_trace"], Options()), "smartmoe")


@needs_smartmoe
@pytest.mark.timeout(120)
def test_smartmoe_over_training(smartmoe):
    """51 points, 8 devices: contiguous 3.380, planned once 3.463, its rule 2.888, the clairvoyant and regrets."""
    rules = tuple(RebalanceRule("smartmoe", interval, 1, threshold) for interval in (1, 2) for threshold in (1.0, 1.05))
    found = rebalance_rows([smartmoe], Asked(rules, 8, move_costs=(0.001, 0.01)), Moving())
    static = {row["placement"]: row["device_max_over_mean"] for row in found.rows[:5]}
    right = {"contiguous": 3.38035, "first": 3.46291, "all": 2.87134, "same": 2.86569, "bound": 2.86521}
    assert static == pytest.approx(right, abs=1e-5)
    rows = [
        [row["device_max_over_mean"], row["adoptions_per_layer"], row["copies_per_layer"]] for row in found.rows[5:]
    ]
    expected = [
        [2.888, 30.20833, 516.54167], [2.89994, 2.875, 67.375], [2.89225, 16.375, 289.16667],
        [2.91207, 1.91667, 44.08333],
    ]  # fmt: skip
    np.testing.assert_allclose(rows, expected, atol=1e-5)
    for move_cost, cost, paid, regret in ((0.001, 2.86765, 2.89792, 0.01055), (0.01, 2.87471, 2.91315, 0.01337)):
        best = min((row for row in found.regret if row["move_cost"] == move_cost), key=lambda row: row["regret"])
        assert best["clairvoyant_cost_per_point"] == pytest.approx(cost, abs=1e-5)
        assert (best["cost_per_point"], best["regret"]) == pytest.approx((paid, regret), abs=1e-5)
    assert found.regret[0]["clairvoyant_copies_per_layer"] == pytest.approx(45.66667, abs=1e-5)


@needs_smartmoe
@pytest.mark.parametrize(
    ("redundant", "interval", "balance", "copies", "fewer"),
    [(8, 1, 1.19238, 25.81633, 18.77041), (32, 5, 1.18761, 33.80556, 23.39815), (32, 0, 2.20886, 0.0, 0.0)],
)
def test_smartmoe_with_replicas(smartmoe, redundant, interval, balance, copies, fewer):
    check(smartmoe, shape_for(32, 8, 1, redundant), ("eplb", interval, 1), balance, copies, fewer)


@needs_law
@pytest.mark.parametrize(
    ("window", "interval", "balance", "copies", "fewer"),
    [(1, 4, 1.18285, 65.84615, 53.22527), (4, 8, 1.15588, 65.62821, 52.9359)],
)
def test_law_with_replicas(window, interval, balance, copies, fewer, tmp_path):
    options = Options(experts=64, phase="prefill", ranked=True)
    save_trace(import_files("npz", [REAL / "deepseek-v2-lite/law.npz"], options), tmp_path / "law.trace.parquet")
    ((points,), _) = read_points(tmp_path / "law.trace.parquet", 256)
    check(points, shape_for(64, 8, 1, 16), ("eplb", interval, window), balance, copies, fewer)


def check(points, shape, rule, balance, copies, fewer):
    """Hold a rule to its balance, and to its copies per adoption without and with devices renamed."""
    for relabel, expected in ((False, copies), (True, fewer)):
        made = replay(points, shape, RebalanceRule(*rule, threshold=0, relabel=relabel, start="first-point"))
        assert np.nanmean(made.over_mean_SL) == pytest.approx(balance, abs=1e-5)
        assert made.copies_SL.sum() / max(1, made.adopted_SL.sum()) == pytest.approx(expected, abs=1e-5)
