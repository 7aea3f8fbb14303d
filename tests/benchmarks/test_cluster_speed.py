"""Selections per second in lockstep, on one device and on eight that are linked, one core.

    python -m pytest tests/benchmarks/test_cluster_speed.py -o addopts="" --benchmark-columns=min,rounds -s

World: L=24, E=64, K=4, random selections, steps of 256 and of 8,192 tokens, costs 20,000 + 1,500 n ns. Counted is the
whole of `simulate`: arrays, steps and record tables, in seconds of the processor, after one run that compiles or loads
machine code. Aims: 100 million selections/s on one device, 30 million on eight. A slow machine fails nothing here;
doing less than all of the work does.
"""

from dataclasses import replace

import numpy as np
import pytest
from large_worlds import COST, E, K, L
from test_compiled_engine_speed import seconds_of

from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.engines.engine_choice import simulate

TOKENS, PASS = 65_536, 16
LINKS = ClusterConfig(
    links="h800", inside_latency_ns=2000, inside_bytes_per_s=160e9, network_latency_ns=5000, network_bytes_per_s=50e9,
    dispatch_bytes=2112, combine_bytes=4096,
)  # fmt: skip
WORLDS = {"plain-1": (1, None), "linked-1": (1, LINKS), "linked-8": (8, replace(LINKS, nodes=2))}
AIMS = {"plain-1": None, "linked-1": 100e6, "linked-8": 30e6}


@pytest.fixture(scope="module")
def experts_TLK():
    """Random selections."""
    rng = np.random.default_rng(0)
    few = np.argsort(rng.random((8192, L, E), np.float32), axis=2)[:, :, :K].astype(np.int16)
    return np.tile(few, (TOKENS // len(few), 1, 1))


@pytest.mark.parametrize("step", [256, 8192])
@pytest.mark.parametrize("world", WORLDS)
def test_selections_per_second(benchmark, experts_TLK, world, step):
    devices, cluster = WORLDS[world]
    rows = np.arange(TOKENS, dtype=np.int32)
    workload = build_workload(experts_TLK, rows // PASS, rows // step, E)
    workload = replace(workload, home_T=rows // PASS % devices)
    config = RunConfig(scheduler="lockstep", arrivals="steps", devices=devices, cluster=cluster)
    found = simulate(workload, config, COST, {}, engine="compiled")
    assert found.batches["tokens"][found.batches["block"] > 0].sum() == experts_TLK.size
    assert (found.passes["end_ns"] > 0).all()
    seconds = benchmark.pedantic(
        lambda: seconds_of(simulate, workload, config, COST, {}, engine="compiled")[0], rounds=3
    )
    aim = f", aim {AIMS[world] / 1e6:.0f}" if AIMS[world] else ""
    print(f"\n{world}, steps of {step:,}: {experts_TLK.size / seconds / 1e6:.1f} million selections/s{aim}")
