"""`python -m analysis` on a small folder of logs: every table, the same bytes twice, a true exit status."""

import json
import re
import shutil

import pandas as pd
import pytest
from typer.testing import CliRunner

from moe_replay.analysis.__main__ import app
from moe_replay.analysis.parallel_builds import LONGEST, SAME_RUNS, tasks_of
from moe_replay.analysis.table_builds import BUILDS
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.command_line.outputs import digest_of
from moe_replay.traces.errors import InputError

TABLES = (
    "accuracy_vs_k", "accuracy_vs_k_fit", "accuracy_vs_k_seeds", "delta_k", "delta_k_curves", "delta_k_groups",
    "gating_memory", "gating_memory_experts",
    "delta_k_histogram", "delta_k_oracle", "delta_k_serving", "fidelity", "fidelity_repeatability",
    "fidelity_summary", "load_vs_k", "load_vs_k_experts", "load_vs_k_places", "language", "locality",
    "locality_drift", "locality_heat", "locality_hits", "open_loop", "open_loop_times",
    "queue_size", "queue_size_steps", "queue_size_tradeoff", "random_routing", "random_routing_epochs",
    "miss_ratio", "skip_exchange", "swap_budget", "swap_latency", "swap_tradeoff", "layer_costs", "links",
    "balance", "placement", "placement_iterations", "placement_layers", "peak_memory", "peak_memory_compiled",
    "all_to_all", "all_to_all_summary", "end_to_end", "end_to_end_published", "skew",
)  # fmt: skip


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
        "skip_exchange", "layer_costs", "links", "balance", "placement", "peak_memory", "all_to_all", "end_to_end",
        "skew",
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
    tasks = tasks_of(["load_vs_k", *BUILDS])
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
    done = analyse(folders, "--only", "accuracy_vs_k,load_vs_k")
    assert done.exit_code == 0, done.output


def test_one_group_of_tables(folders):
    assert analyse(folders, "--only", "load_vs_k").exit_code == 0
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
    about = json.loads((tmp_path / "runs.json").read_text())
    assert about["inputs"] == {"executed": digest_of(executed)}
    assert about["sha256"] == sha256_of(tmp_path / "runs.csv")
    assert {"command", "packages", "source_revision"} <= about["provenance"].keys()


@pytest.mark.parametrize("command", ["runs", "memory", "requests"])
def test_a_table_beside_which_nothing_can_be_said_is_refused(command, tmp_path):
    done = CliRunner().invoke(app, [command, str(tmp_path), "--out", str(tmp_path / "table.json")])
    assert isinstance(done.exception, InputError)
    assert "a name that ends in .csv" in str(done.exception)


def test_a_folder_without_runs_is_refused(tmp_path):
    done = CliRunner().invoke(app, ["runs", str(tmp_path)])
    assert isinstance(done.exception, InputError)
    assert "holds no complete run" in str(done.exception)
