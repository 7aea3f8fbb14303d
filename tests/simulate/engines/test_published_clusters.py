"""Linked devices against worlds and cluster steps that were worked out independently, where their file is there."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from cluster_worlds import cluster, linked, placed
from equality import simulate_by_simpy, simulate_compiled

from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.placing.cluster_shape import ClusterShape
from moe_replay.simulate.placing.load_profile import LoadProfile
from moe_replay.simulate.placing.planner_names import planner
from moe_replay.traces.runs.cluster_statistics import cluster_statistics
from moe_replay.traces.runs.run_window import whole_run

SHARED = Path(__file__).resolve().parents[4] / "shared"
REAL = Path(os.environ.get("MOE_REPLAY_TRACES", SHARED / "data" / "traces"))
NUMBERS = REAL.parents[1] / "reference" / "placement_numbers.json"
LAW = REAL / "deepseek-v2-lite" / "law.npz"
BATCHES = ("device", "micro_batch", "layer", "block", "tokens", "start_ns", "end_ns")
MESSAGES = (
    "micro_batch",
    "layer",
    "kind",
    "source",
    "destination",
    "tokens",
    "bytes",
    "queued_ns",
    "start_ns",
    "end_ns",
)
DISPATCH, COMBINE, STEP = 2112, 4096, 256
PLANNERS = {"contiguous": "contiguous", "lpt": "lpt", "co_activation-0.05": "co-activation=0.05"}

pytestmark = pytest.mark.skipif(not NUMBERS.exists(), reason="the published numbers are not here")
both_engines = pytest.mark.parametrize("engine", [simulate_by_simpy, simulate_compiled])


def of_file(part):
    """Return a part of the published numbers, empty where they are not here."""
    return json.loads(NUMBERS.read_text())[part] if NUMBERS.exists() else {}


def asked(world):
    """Return the cluster of a toy world."""
    net = world["net"]
    return cluster(
        nodes=world["N"], inside_latency_ns=net["intra"][0], inside_bytes_per_s=net["intra"][1],
        network_latency_ns=net["inter"][0], network_bytes_per_s=net["inter"][1], dispatch_bytes=net["dispatch_bytes"],
        combine_bytes=net["combine_bytes"], nics=net.get("nics"), mode=net.get("mode", "direct"),
        unit=net.get("unit", "device"), micro_batches=world["M"],
        split=world.get("rule", "round_robin").replace("_", "-"),
    )  # fmt: skip


@both_engines
@pytest.mark.parametrize("name", of_file("toys"))
def test_toy_worlds_to_the_nanosecond(engine, name):
    toy = of_file("toys")[name]
    world, rows = toy["world"], np.arange(len(toy["world"]["x"]), dtype=np.int32)
    workload = build_workload(np.array(world["x"], np.int16), rows, np.zeros_like(rows), world["E"])
    placement = placed(world["P"], world["E"], world["D"])
    found = engine(
        *linked(workload, world["home"], placement, world["D"], asked(world)),
        lambda layer, block, tokens: 50 + 20 * tokens if block else 100 + 10 * tokens, {},
    )  # fmt: skip
    assert found.passes["end_ns"].max() == toy["end_ns"]
    assert np.stack([found.batches[each] for each in BATCHES], 1).tolist() == toy["batches"]
    kinds = {"dispatch": 0, "combine": 1}
    sent = [[*row[:2], kinds[row[2]], *row[3:]] for row in toy["messages"]]
    assert np.stack([found.messages[each].astype(np.int64) for each in MESSAGES], 1).tolist() == sent


@pytest.fixture(scope="module")
def law():
    """Return (the trace's last four steps, {planner: expert_LP} from the rows before)."""
    experts = np.load(LAW)["experts"].astype(np.int16)
    before = experts[: -4 * STEP]
    load_LE = np.stack([np.bincount(before[:, layer].ravel(), minlength=64) for layer in range(26)])
    known = LoadProfile(load_LE[None], before)
    placements = {method: planner(method)(known, ClusterShape(8, 1, 8)) for method in PLANNERS.values()}
    return experts[-4 * STEP :], placements


@pytest.mark.skipif(not LAW.exists(), reason="the trace is not here")
@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("planned", PLANNERS)
@pytest.mark.parametrize("mode", ["direct", "hierarchical"])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_cluster_steps_to_the_nanosecond(law, nodes, planned, mode, micro_batches):
    published = of_file("cluster")[f"law-D8-N{nodes}"].get(f"{planned}-{mode}-M{micro_batches}")
    if published is None:
        pytest.skip("was not published")
    served, placements = law
    rows, slots = np.arange(len(served), dtype=np.int32), placements[PLANNERS[planned]]
    net = cluster(
        nodes=nodes, inside_latency_ns=2000, inside_bytes_per_s=160e9, network_latency_ns=5000, mode=mode,
        network_bytes_per_s=50e9, dispatch_bytes=DISPATCH, combine_bytes=COMBINE, micro_batches=micro_batches,
    )  # fmt: skip
    workload, config = linked(
        build_workload(served, rows, rows // STEP, 64), rows % 8, placed(slots, 64, 8), 8, net, arrivals="steps"
    )
    found = simulate_compiled(
        workload, config, lambda layer, block, tokens: 5200 + 45 * tokens if block else 30_000 + 150 * tokens,
        {"config": config.as_dict()},
    )  # fmt: skip
    ends_ns = np.unique(found.passes["end_ns"])
    assert ends_ns[:2].tolist() == published["ends_ns"]
    assert ends_ns[-1] / 4 == published["step_ns"]
    spent = cluster_statistics(found, whole_run(found))
    assert spent["inside_bytes"] == published["intra_bytes"]
    assert spent["network_bytes"] == published["inter_bytes"]
    assert spent["messages"] == published["messages"]
    for name, share in (("dense_share", "dense"), ("expert_share", "expert"), ("straggler_share", "straggler")):
        assert spent[name] == pytest.approx(published[share], abs=6e-6)
