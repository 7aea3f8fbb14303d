"""Sets of runs on layers of a published shape: shown beside the others, wanted nowhere that a model is needed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from memory_logs import memory_log
from swapping_logs import write_memory_runs

from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.table_builds import BUILDS
from moe_replay.traces.file.trace_file import load_trace

NAME = "gpu-toy/tiny"


@pytest.fixture
def logs(folders, one_at_a_time):
    """Return (logs, simulated, out) in which a GPU has executed a trace on layers of a shape."""
    logs, simulated, out = folders
    folder, images = logs / NAME, logs / "cpu-toy" / "digits"
    folder.mkdir(parents=True)
    shutil.copy(images / "wide.trace.parquet", folder / "executed.trace.parquet")
    shutil.copy(images / "costs.parquet", folder / "costs.parquet")
    for size in (1, 2):
        run = one_at_a_time(queue_size=size)
        header = run.header | {"own_share": {"share": 0.125}}
        replace(run, header=header).save(folder / "executed", f"B{size}")
        one_at_a_time(queue_size=size, source="simulated").save(simulated / NAME, f"B{size}")
    write_memory_runs(folder, simulated / NAME / "memory-simulated", load_trace(folder / "executed.trace.parquet"))
    table = memory_log()
    viewed = (table["convention"] == "CSk/E") | (table["dispatch"] != "static")
    table[viewed & (table["router"] != "zipf 1") & (table["k"] == 2)].assign(router="zipf 1", like="tiny").to_csv(
        folder / "memory.csv", index=False
    )
    return logs, simulated, out


def built(logs, name):
    """Build one group of tables; return its holes and the folder."""
    where, simulated, out = logs
    return BUILDS[name](Inputs(find_log_sets(where, simulated)), out), out


@pytest.mark.parametrize(
    "build", ["accuracy_vs_k", "load_vs_k", "open_loop", "delta_k", "random_routing", "delta_k_serving", "locality"]
)
def test_no_model_is_missed(logs, build):
    holes, _ = built(logs, build)
    assert not [hole for hole in holes if NAME in hole]


def test_queues_and_fidelity_stand_beside_the_others(logs):
    holes, out = built(logs, "queue_size")
    assert not [hole for hole in holes if NAME in hole]
    table = pd.read_csv(out / "queue_size.csv")
    own = table[table["set"] == NAME]
    assert set(own["source"]) == {"executed", "simulated", "theory"}
    assert "cpu-toy/digits" in set(table["set"])
    built(logs, "fidelity")
    rows = pd.read_csv(out / "fidelity.csv")
    share = rows.groupby("set")["own_share_percent"].first()
    assert share[NAME] == 12.5
    assert np.isnan(share["cpu-toy/digits"])


def test_dispatch_memory_and_slots_of_a_shape_are_told(logs):
    _, out = built(logs, "gating_memory")
    experts = pd.read_csv(out / "gating_memory_experts.csv")
    (view,) = set(experts.loc[experts["set"] == NAME, "view"])
    assert view.startswith("a layer of tiny (zipf 1 router): E=16, k=2, capacity CSk/E, C=1.2")
    built(logs, "swap_tradeoff")
    claims = json.loads((out / "claims.json").read_text())
    told = "On a layer of tiny (S=100, capacity CSk/E, C=1.2) static peaks at 5 times dynamic's memory"
    assert told in claims["gating_memory"]["claim"]
    assert f"{NAME}, 4 slots per layer: a pass at batch 1 takes" in claims["swap_tradeoff"]["claim"]


def test_own_logs_of_a_gpu_alone_have_all_their_tables(logs):
    where, simulated, out = logs
    sets = [each for each in find_log_sets(where, simulated) if each.name == NAME]
    for build in ("queue_size", "fidelity", "gating_memory"):
        assert not BUILDS[build](Inputs(sets), out)
