"""A timeline of a million batches: at most 15 s of processor time and 100 MB.

python -m pytest tests/benchmarks/test_timeline_speed.py -o addopts="" -s
"""

import time

from large_worlds import COST, E, random_workload

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.simulate.timeline.perfetto_file import write_timeline
from moe_replay.simulate.timeline.run_timeline import run_timeline

LARGEST_BYTES, BATCHES = 100e6, 1_000_000


def test_a_million_batches(tmp_path):
    import numpy as np

    experts_TLK = random_workload(4_200_000).experts_TLK
    rows = np.arange(len(experts_TLK), dtype=np.int32)
    config = RunConfig(scheduler="queues", queue_size=4, arrivals="all")
    workload = build_workload(experts_TLK, rows // 16, rows // 256, E)
    records = simulate(workload, config, COST, {"config": config.as_dict(), "source": "simulated"})
    started, written = time.process_time(), []
    run = run_timeline(records, "simulated")
    with (tmp_path / "run.pftrace").open("wb") as opened:
        write_timeline(opened, [run], written.append)
    took, size = time.process_time() - started, (tmp_path / "run.pftrace").stat().st_size
    print(f"{run.slices:,} slices, {sum(written):,} packets: {took:.1f} s, {size / 1e6:.0f} MB")
    assert run.slices == len(records.batches["block"]) >= BATCHES
    assert sum(written) >= run.events
    assert size * BATCHES / run.slices <= LARGEST_BYTES
