"""`python -m analysis` on a small folder of logs: every table, the same bytes twice, a true exit status."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from memory_logs import write_memory_log
from operating_worlds import study_world
from serving_worlds import serve_point
from swapping_logs import write_memory_runs, write_swapping_logs
from typer.testing import CliRunner
from vision_logs import write_vision_logs

from analysis.__main__ import app
from analysis.all_builds import LONGEST, SAME_RUNS, tasks_of
from analysis.builds import BUILDS
from traces.cost_table import COST_COLUMNS, CostTable
from traces.errors import InputError
from traces.header import Header, ModelInfo
from traces.selections import Trace
from traces.trace_file import save_trace

TABLES = (
    "accuracy_vs_k", "accuracy_vs_k_fit", "accuracy_vs_k_seeds", "delta_k", "delta_k_curves", "delta_k_groups",
    "gating_memory", "gating_memory_experts",
    "delta_k_histogram", "delta_k_oracle", "delta_k_serving", "fidelity", "fidelity_repeatability",
    "fidelity_summary", "load_vs_k", "load_vs_k_experts", "load_vs_k_places", "language", "locality",
    "locality_drift", "locality_heat", "locality_hits", "open_loop", "open_loop_times",
    "queue_size", "queue_size_steps", "queue_size_tradeoff", "random_routing", "random_routing_epochs",
    "miss_ratio", "skip_exchange", "swap_budget", "swap_latency", "swap_tradeoff",
)  # fmt: skip


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


@pytest.fixture
def folders(tmp_path, one_at_a_time):
    logs, simulated = tmp_path / "logs", tmp_path / "simulated"
    folder = logs / "cpu-toy" / "digits"
    folder.mkdir(parents=True)
    for name in ("base", "wide"):
        save_trace(toy_trace(), folder / f"{name}.trace.parquet")
    save_trace(toy_trace(used_k=2), folder / "rules" / "base-k2.trace.parquet")
    toy_costs().save(folder / "costs.parquet")
    write_vision_logs(folder)
    write_memory_log(folder)
    text = toy_trace()
    domains = np.array(["code", "docs", "novels"])[text.sequences_S % 3]
    (logs / "cpu-toy" / "text").mkdir()
    save_trace(replace(text, domain_S=domains), logs / "cpu-toy" / "text" / "language-decode.trace.parquet")
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


def analyse(folders, *options):
    logs, simulated, out = folders
    return CliRunner().invoke(app, ["tables", str(logs), str(simulated), "--out", str(out), *options])


def test_every_table_and_claim(folders):
    done = analyse(folders)
    assert done.exit_code == 0, done.output
    out = folders[2]
    assert sorted(path.stem for path in out.glob("*.csv")) == sorted(TABLES)
    claims = json.loads((out / "claims.json").read_text())
    assert set(claims) == {
        "accuracy_vs_k", "delta_k", "load_vs_k", "queue_size", "fidelity", "open_loop", "random_routing",
        "gating_memory", "delta_k_serving", "locality", "language", "miss_ratio", "swap_tradeoff", "swap_budget",
        "skip_exchange",
    }  # fmt: skip
    assert "1.500 bits per byte, fewer than the best n-gram (5-gram: 2.000" in claims["language"]["claim"]
    assert "6 of 6 runs" in claims["fidelity"]["claim"]
    table = pd.read_csv(out / "queue_size.csv")
    found = table.groupby("source")["queue_size"].apply(sorted).to_dict()
    assert found == {source: [1, 2, 4] for source in ("executed", "simulated", "theory")}
    assert (table.loc[table["source"] != "theory", "replications"] == 2).all()
    about = json.loads((out / "queue_size.json").read_text())
    assert set(about["inputs"]) == {
        f"cpu-toy/digits/{name}" for name in ("costs.parquet", "wide.trace.parquet", "executed", "simulated")
    }
    assert about["inputs"]["cpu-toy/digits/executed"].endswith("over 12 files")
    assert str(folders[0]) not in (out / "queue_size.json").read_text()


def contents(folder):
    """Return every file's text; the source revision aside, which others may change while this runs."""
    return {path.name: re.sub(r'"source_revision": ".*"', "", path.read_text()) for path in folder.iterdir()}


def test_same_inputs_same_bytes(folders):
    analyse(folders)
    first = contents(folders[2])
    analyse(folders)
    assert contents(folders[2]) == first


def test_same_bytes_however_many_builds_run_at_once(folders, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    analyse(folders)
    first = contents(folders[2])
    shutil.rmtree(folders[2])
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    analyse(folders)
    assert contents(folders[2]) == first


def test_every_build_runs_once_and_those_of_the_same_runs_together():
    tasks = tasks_of(["load", *BUILDS])
    assert sorted(name for task in tasks for name in task) == sorted(BUILDS)
    assert [task for task in tasks if len(task) > 1] == [list(SAME_RUNS)]
    assert [task[0] for task in tasks[: len(LONGEST)]] == list(LONGEST)


@pytest.mark.parametrize(
    ("remove", "table", "reason"),
    [
        ("quality.csv", "accuracy_vs_k", "no such file"),
        ("base.trace.parquet", "load_vs_k", "no such file"),
        ("costs.parquet", "queue_size", "costs.parquet: no such file"),
        ("wide.trace.parquet", "queue_size", "wide.trace.parquet: no such file"),
        ("executed/B2-s0.passes.parquet", "fidelity", "no such file"),
    ],
)
def test_a_missing_input_is_a_row_and_a_failure(folders, remove, table, reason):
    (folders[0] / "cpu-toy" / "digits" / remove).unlink()
    done = analyse(folders)
    assert done.exit_code == 1
    assert reason in done.stderr
    rows = pd.read_csv(folders[2] / f"{table}.csv")
    bad = rows[rows["status"].isin(["missing", "failed"])]
    assert bad["reason"].str.contains(reason).all()
    assert len(bad) >= 1
    assert sorted(path.stem for path in folders[2].glob("*.csv")) == sorted(TABLES)


def test_a_damaged_input_is_a_row_and_a_failure(folders):
    path = folders[0] / "cpu-toy" / "digits" / "base.trace.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    assert analyse(folders).exit_code == 1
    assert pd.read_csv(folders[2] / "load_vs_k.csv")["status"].tolist() == ["failed"]


def test_another_device_may_share_the_data(folders):
    """A second device with the same data needs no quality table and no base trace of its own."""
    (folders[0] / "gpu-toy" / "digits" / "executed").mkdir(parents=True)
    done = analyse(folders, "--only", "accuracy,load")
    assert done.exit_code == 0, done.output


def test_one_group_of_tables(folders):
    assert analyse(folders, "--only", "load").exit_code == 0
    assert sorted(path.stem for path in folders[2].glob("*.csv")) == [
        "load_vs_k",
        "load_vs_k_experts",
        "load_vs_k_places",
    ]


def test_wrong_names_are_refused(folders, tmp_path):
    with pytest.raises(InputError, match=f"known: {', '.join(sorted(BUILDS))}"):
        raise analyse(folders, "--only", "luck").exception
    with pytest.raises(InputError, match="holds no logs"):
        raise analyse((folders[1], folders[1], folders[2])).exception


def test_runs_of_a_folder_become_one_row_per_configuration(folders, tmp_path):
    executed = folders[0] / "cpu-toy" / "digits" / "executed"
    done = CliRunner().invoke(app, ["runs", str(executed), "--out", str(tmp_path / "runs.csv")])
    assert done.exit_code == 0, done.output
    assert "passes/s" in done.stdout
    rows = pd.read_csv(tmp_path / "runs.csv")
    assert rows["queue_size"].tolist() == [1, 2, 4]
    assert (rows["replications"] == 2).all()


def test_a_folder_without_runs_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert "holds no complete run" in str(done.exception)
