"""Memory of a lockstep run of 10^8 selections over eight linked devices, in a process of its own.

    python -m pytest tests/benchmarks/test_cluster_memory.py -o addopts="" -s

World: L=24, E=64, K=4, random selections, two nodes, steps of 256 tokens: 7.1 million batches, 10.9 million messages.
Aim: at most 2 GB at the peak, everything included (interpreter, machine code, workload, record tables, statistics).
Summaries from the tables are held to the same run by the reference engine, at 1/1000 of the size.
"""

import json
import resource
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from large_worlds import COST, E, assert_complete, random_workload
from test_cluster_speed import LINKS

from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import build_workload
from moe_replay.simulate.engines.engine_choice import simulate
from moe_replay.traces.runs.run_statistics import run_statistics

AIM = 2e9
PASS, STEP, DEVICES = 16, 256, 8


def run(selections, engine):
    """Return (workload, records) of a run of about so many selections."""
    experts_TLK = random_workload(selections).experts_TLK
    rows = np.arange(len(experts_TLK), dtype=np.int32)
    workload = build_workload(experts_TLK, rows // PASS, rows // STEP, E)
    workload = replace(workload, home_T=rows // PASS % DEVICES)
    config = RunConfig(scheduler="lockstep", arrivals="steps", devices=DEVICES, cluster=replace(LINKS, nodes=2))
    return workload, simulate(workload, config, COST, {"config": config.as_dict()}, engine=engine)


def measured(selections):
    """Run, check that all of the work was done, and return what it took (of this process) and came to."""
    workload, records = run(selections, "compiled")
    assert_complete(records, workload)
    found = run_statistics(records).values
    return {
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "selections": workload.experts_TLK.size,
        "batches": len(records.batches["block"]), "messages": len(records.messages["kind"]),
        "sent": int(records.messages["tokens"].sum()), "bytes": found["inside_bytes"] + found["network_bytes"],
    }  # fmt: skip


@pytest.mark.parametrize("selections", [10**8])
def test_peak_of_a_large_run(selections):
    done = subprocess.run([sys.executable, __file__, str(selections)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["selections"] == selections // 96 * 96
    steps = -(-selections // 96 // STEP)
    # Every device sends in every layer of a step, and most experts run.
    assert found["messages"] >= 0.99 * steps * 24 * 2 * DEVICES * (DEVICES - 1)
    assert found["batches"] >= 0.99 * steps * 24 * E
    print(f"\n{selections:.0e} selections: peak {found['peak'] / 1e9:.2f} GB, aim 2; {found['messages']:,} messages")
    assert found["peak"] <= AIM


def test_tables_are_those_of_the_reference():
    """What is measured above, small: every column, and so every summary, equals the readable engine's."""
    tables = [run(10**5, engine)[1] for engine in ("compiled", "simpy")]
    for kind in ("passes", "batches", "messages"):
        one, other = (getattr(records, kind) for records in tables)
        assert list(one) == list(other)
        assert all(np.array_equal(one[name], other[name]) for name in one)
    np.testing.assert_equal(*(run_statistics(records).values for records in tables))


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]))))
