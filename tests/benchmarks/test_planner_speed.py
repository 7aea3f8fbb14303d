"""Seconds for planners of 58 layers of 256 experts on 64 devices in 8 nodes, beside plain loops of Python.

    python -m pytest tests/benchmarks/test_planner_speed.py -s

Targets: `lpt` and `eplb` (320 slots) in under 0.3 s each. A slow or busy machine fails nothing here; another placement
than that of the plain loops does.
"""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import planned

sys.path.insert(0, str(Path(__file__).parents[1] / "simulate" / "placing"))
import plain_planners

LAYERS, EXPERTS, DEVICES, NODES = 58, 256, 64, 8
PLAIN = {
    "lpt": (4, lambda load_E: plain_planners.lpt(load_E, DEVICES)),
    "eplb": (5, lambda load_E: plain_planners.eplb(load_E, 5 * DEVICES, 1, NODES, DEVICES)),
    "eplb=8": (5, lambda load_E: plain_planners.eplb(load_E, 5 * DEVICES, 8, NODES, DEVICES)),
}


@pytest.mark.parametrize("method", PLAIN)
def test_seconds_beside_plain_loops(method):
    load_LE = (np.random.default_rng(0).exponential(1, (LAYERS, EXPERTS)) * 1000).astype(np.int64)
    slots_per_device, plain = PLAIN[method]
    known, shape = LoadProfile(load_LE[None]), ClusterShape(DEVICES, NODES, slots_per_device)
    start = time.process_time()
    made = planned(method, known, shape)
    ours = time.process_time() - start
    start = time.process_time()
    expected = [plain(load_E) for load_E in load_LE]
    others = time.process_time() - start
    assert made.tolist() == expected
    print(f"\n{method}: {ours:.3f} s, plain loops {others:.2f} s, {others / ours:.0f} times")
