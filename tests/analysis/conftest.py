"""A small folder of logs and simulated runs from which every table can be made."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from layer_logs import write_layer_logs
from memory_logs import write_memory_log
from operating_worlds import study_world
from placing_logs import write_simulated_placements, write_training_loads
from port_logs import write_port_log, write_predicted
from serving_worlds import serve_point
from skew_logs import write_served_layer, write_simulated_skew
from step_logs import write_step_logs
from swapping_logs import write_memory_runs, write_misses, write_swapping_logs
from vision_logs import write_vision_logs

from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.runs.cost_table import COST_COLUMNS, CostTable
from moe_replay.traces.selections import Trace


def toy_trace(tokens=60, experts=4, used_k=1):
    rng = np.random.default_rng(0)
    model = ModelInfo(name="toy", experts=experts, used_k=used_k, layer_ids=(0,))
    header = Header(
        model=model, gate_rule="softmax", score_kind=None, ranked=True, device="cpu",
        data={"name": "toy", "digest": None, "note": None},
    )  # fmt: skip
    return Trace(
        header=header, experts_TLK=np.argsort(rng.random((tokens, 1, experts)), axis=2).astype(np.int16),
        sequence_T=np.arange(tokens, dtype=np.int32), position_T=np.zeros(tokens, np.int32),
        step_T=(np.arange(tokens) // 20).astype(np.int32), phase_T=np.zeros(tokens, np.int8),
        domain_S=np.array(["toy"] * tokens),
    )  # fmt: skip


def toy_costs():
    rows = [(0, block, n, 0, 4_000_000 + 100 * n) for block in (0, 1) for n in (1, 2, 4)]
    columns = np.array(rows).T
    named = {name: column.astype(dtype) for (name, dtype), column in zip(COST_COLUMNS.items(), columns, strict=True)}
    return CostTable(named, {"device": "toy"})


def toy_text():
    """The toy trace as text of three domains."""
    text = toy_trace()
    return replace(text, domain_S=np.array(["code", "docs", "novels"])[text.sequences_S % 3])


@pytest.fixture(scope="session")
def placements(tmp_path_factory):
    """Return (logs, simulated) of what experts are placed by, made once: every test has a copy."""
    logs, simulated = (tmp_path_factory.mktemp("placements") / name for name in ("logs", "simulated"))
    write_training_loads(logs / "cpu-toy" / "text")
    save_trace(toy_text(), logs / "cpu-toy" / "text" / "language-decode.trace.parquet")
    (logs / "cpu-toy" / "digits").mkdir()
    save_trace(toy_trace(), logs / "cpu-toy" / "digits" / "wide.trace.parquet")
    write_simulated_placements(logs, simulated)
    served = write_served_layer(logs / "cpu-toy" / "shapes")
    write_simulated_skew(served, simulated / "cpu-toy" / "shapes")
    return logs, simulated


@pytest.fixture
def folders(tmp_path, one_at_a_time, placements):
    logs, simulated = tmp_path / "logs", tmp_path / "simulated"
    folder = logs / "cpu-toy" / "digits"
    for source, copy in zip(placements, (logs, simulated), strict=True):
        shutil.copytree(source, copy)
    save_trace(toy_trace(), folder / "base.trace.parquet")
    save_trace(toy_trace(used_k=2), folder / "rules" / "base-k2.trace.parquet")
    toy_costs().save(folder / "costs.parquet")
    write_vision_logs(folder)
    write_memory_log(folder)
    write_layer_logs(logs / "cpu-toy" / "shapes")
    digest = write_port_log(logs / "cpu-toy" / "cluster" / "ports.parquet")
    write_predicted(simulated / "cpu-toy" / "cluster" / "all-to-all.parquet", digest)
    write_step_logs(logs / "cpu-toy" / "training-steps")
    write_misses(simulated / "cpu-toy" / "text", "language-decode", toy_text())
    bits = [("code", "language model", 1.5, 0.1, 0.0, 0.0), ("code", "5-gram", 2.0, 0.1, 0.5, 0.02)]
    names = ["domain", "model", "bits_per_byte", "standard_error", "lead", "lead_error"]
    table = pd.DataFrame(bits, columns=names).assign(segments=9, segment_bytes=4)
    table.to_csv(logs / "cpu-toy" / "text" / "language.csv", index=False)
    runs = simulated / "cpu-toy" / "text" / "memory-simulated"
    write_memory_runs(logs / "cpu-toy" / "text", runs, toy_trace())
    write_swapping_logs(logs / "cpu-toy" / "text")
    serve_point("base-k2", toy_trace(used_k=2), folder, simulated / "cpu-toy" / "digits")
    study_world(60, 2, 0.0, np.random.default_rng(0)).save(folder / "dynamic_k.parquet")
    rng = np.random.default_rng(0)
    rows = [
        ("digits", k, k, s, 1, 10, 0.5 + 0.01 * k + rng.normal(0, 0.001), 1.0) for k in range(1, 5) for s in range(3)
    ]
    names = ["data", "trained_k", "evaluated_k", "seed", "epochs", "samples", "accuracy", "cross_entropy"]
    pd.DataFrame(rows, columns=names).to_csv(folder / "quality.csv", index=False)
    for size in (1, 2, 4):
        for seed in (0, 1):
            run = one_at_a_time(queue_size=size, seed=seed)
            run.save(folder / "executed", f"B{size}-s{seed}")
            run = one_at_a_time(queue_size=size, seed=seed, source="simulated")
            run.save(simulated / "cpu-toy" / "digits", f"B{size}-s{seed}")
    return logs, simulated, tmp_path / "tables"
