"""Scores of placements on published traces, where those are there: values of an independent implementation.

Batches of 256 rows, planners fitted on the first half and scored on the second, means over layers. What is sent is of
the second half of the sequences.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.interface.expert_places import place
from moe_replay.simulate.placing.cluster_shape import shape_for
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import planned
from moe_replay.simulate.placing.scores import max_over_mean
from moe_replay.traces.importers.importer_names import import_files
from moe_replay.traces.importers.reading.import_source import Options
from moe_replay.traces.placements.even_split import even_loads

REAL = Path(os.environ.get("MOE_REPLAY_TRACES", Path(__file__).resolve().parents[4] / "shared" / "data" / "traces"))
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="needs published traces, which are not part of the project")
BALANCE = {  # Max Load, Avg Max Load, max/mean
    "contiguous": (0.20302, 0.17821, 1.38363), "round-robin": (0.20398, 0.17532, 1.35938),
    "lpt": (0.17678, 0.14726, 1.06494), "greedy": (0.17593, 0.14725, 1.06381),
    "anti-correlation": (0.21021, 0.18538, 1.46924), "anti-correlation=0": (0.1745, 0.14699, 1.06306),
    "anti-correlation=0.001": (0.169, 0.14483, 1.05654),
}  # fmt: skip
SENT = {  # devices, other devices, other nodes, max/mean of 16 devices in 4 nodes
    "lpt": (5.41958, 5.0753, 2.51576, 1.2128), "co-activation": (4.31537, 4.03701, 2.21317, 1.27698),
    "node-co-activation": (4.99125, 4.671, 1.92982, 1.2612),
}  # fmt: skip


@pytest.fixture(scope="module")
def law():
    path = REAL / "deepseek-v2-lite" / "law.npz"
    return import_files("npz", [path], Options(experts=64, phase="prefill"))


def values(row, *names):
    return tuple(round(row[name], 5) for name in names)


@needs_real
def test_balance_of_eight_devices(law):
    found = place(law, method=[*BALANCE, "bound"], devices=8)
    rows = {row["planner"]: row for row in found.rows}
    assert rows.pop("bound")["device_max_over_mean"] == pytest.approx(1.00109, abs=1e-5)
    for method, row in rows.items():
        assert values(row, "max_load", "avg_max_load", "device_max_over_mean") == pytest.approx(
            BALANCE[method], abs=1.1e-5
        ), method


@needs_real
@pytest.mark.parametrize(("nodes", "method", "even", "best", "useless"), [
    (1, "eplb", 1.0497, 1.00669, 9), (2, "eplb=8", 1.05985, 1.02338, 15),
])  # fmt: skip
def test_replicas_of_eplb_under_both_splits(law, nodes, method, even, best, useless):
    rows = place(law, method=method, devices=8, nodes=nodes, redundant=8, split=["even", "best"], batch=256).rows
    assert [round(row["device_max_over_mean"], 5) for row in rows] == pytest.approx([even, best], abs=1.1e-5)
    assert rows[0]["useless_replicas"] == useless


@needs_real
def test_what_sixteen_devices_in_four_nodes_send(law):
    for row in place(law, method=list(SENT), devices=16, nodes=4, fit="first-sequences").rows:
        found = values(row, "fan_out", "device_copies", "node_copies", "device_max_over_mean")
        assert found == pytest.approx(SENT[row["planner"]], abs=1.1e-5), row["planner"]


@needs_real
def test_a_profile_of_another_domain():
    """OLMoE on 8 devices: fitted on a domain, scored on another."""
    counts = json.loads((REAL / "olmoe" / "expert_counts.json").read_text())["olmoe"]["expert_counts"]
    load = {domain: np.array(counts[domain])[None] for domain in ("arxiv", "wikipedia")}
    made = {domain: planned("lpt", LoadProfile(each), shape_for(64, 8)) for domain, each in load.items()}
    found = [
        max_over_mean(even_loads(load[scored], made[fitted], 8)).mean() for fitted in load for scored in load
    ]  # fmt: skip
    assert found == pytest.approx([1.09703, 1.70362, 1.98719, 1.06563], abs=1e-5)
