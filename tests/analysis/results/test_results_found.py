"""A folder of results: every kind is known, what it says is right, and what cannot be read has a name."""

import contextlib
import shutil

import numpy as np
import pandas as pd
import pytest
from own_results import TABLES, own_results, runs_table, small_trace

import moe_replay
from moe_replay.analysis.results import result as kinds
from moe_replay.analysis.results.result import first_sentence
from moe_replay.analysis.results.results_found import find_results
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.file.trace_writer import TraceWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return own_results(tmp_path_factory.mktemp("own"))


@pytest.fixture(scope="module")
def found(folder):
    return find_results(folder)


def named(found, name):
    return next(each for each in found.results if each.name == name)


def words(result):
    return " ".join((*result.findings, *result.doubts))


def test_every_kind_is_known_by_its_columns(found):
    assert {each.name: each.kind for each in found.results} == {
        "runs.csv": kinds.RUNS, "memory.csv": kinds.MEMORY, "misses.csv": kinds.MISSES, "plans.csv": kinds.PLANS,
        "placed/placements.csv": kinds.PLACEMENTS, "over.csv": kinds.REBALANCES, "orders.csv": kinds.ORDERS,
        "toy.trace.parquet": kinds.TRACE, "toy.trace.parquet: layers": kinds.TRACE,
        "training.loads.parquet": kinds.LOADS,
    }  # fmt: skip
    assert all(named(found, name).command == f"python -m simulate {name.split('/')[-1][:-4]}" for name in TABLES)
    assert all(len(each.digest) in (32, 64) for each in found.results)
    assert not found.failed


def test_runs_say_what_was_measured_and_nothing_else(found):
    runs = named(found, "runs.csv")
    assert runs.axes == ("queue_size", "rate_per_s")
    said = words(runs)
    assert "6 configurations, 5 of them measured." in said
    assert "Highest throughput: 400 (390 to 410) passes/s (B 2, rate_per_s 400), p95 200 ms." in said
    assert "Lowest p95 latency: 50 ms (B 4, rate_per_s 200), at 200 passes/s." in said
    assert "1 row unstable" in said
    assert "Row 2 unstable: arrivals are 2 of the capacity." in said
    assert list(runs.table.columns[:3]) == ["row", "queue_size", "rate_per_s"]


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("memory.csv", "Least time lost: 12.5 % more than with all experts resident (cache lfu, C 8"),
        ("memory.csv", "Most time lost: 50 % more"),
        ("memory.csv", "Why time is lost is not told"),
        ("misses.csv", "With 4 slots per layer lfu misses least: 40 % of accesses, the optimum 30 % (group mode)."),
        ("misses.csv", "belady knew the accesses beforehand"),
        ("plans.csv", "Least predicted loss: 0.1 by exact search, at 4 ms a pass and 30 MB."),
        ("placed/placements.csv", "Most even: eplb with 8 redundant experts, its busiest device has 1.12 times"),
        ("placed/placements.csv", "least even: lpt with 0, 2.5 times."),
        ("placed/placements.csv", "1 placement with an expert twice on a device"),
        ("over.csv", "smartmoe, interval 1, threshold 1; its busiest device has 1.26 times the mean load; contiguous"),
        ("over.csv", "bound: placed knowing the loads"),
        (
            "orders.csv",
            "Lowest peak: 6 MB by lpmf; no order needs less than 5 MB. As captured: 8 MB, so 25 % are saved.",
        ),
        ("orders.csv", "a better order could save up to 20 %"),
        ("toy.trace.parquet", "The trace is synthetic"),
        ("training.loads.parquet", "The hottest expert has 1 times the mean at the start and 1.75 times at the end."),
    ],
)
def test_findings_and_doubts(found, name, line):
    assert line in words(named(found, name))


def test_a_trace_that_one_can_count(tmp_path):
    """Expert 0, 0, 1, 0 of four: loads 3, 1, 0, 0; one of three pairs repeats; by chance (9 + 1) / 16."""
    trace = moe_replay.trace_from_arrays(np.array([0, 0, 1, 0]).reshape(4, 1, 1), [0, 4], experts=4, phase="prefill")
    save_trace(trace, tmp_path / "x.trace.parquet")
    experts, layers = find_results(tmp_path / "x.trace.parquet").results
    assert list(experts.table["selections"]) == [3, 1, 0, 0]
    assert list(experts.table["over_mean"]) == [3, 1, 0, 0]
    (row,) = layers.table.to_dict("records")
    assert (row["cv"], row["max_over_mean"]) == (pytest.approx(1.5**0.5), 3)
    assert row["uniform_cv"] == pytest.approx((0.75 / (0.25 * 4)) ** 0.5)
    assert (row["reuse"], row["by_chance"]) == (pytest.approx(1 / 3), pytest.approx(10 / 16))


def test_what_cannot_be_read_is_named_and_the_rest_is_there(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    damaged = (copy / "toy.trace.parquet").read_bytes()
    (copy / "toy.trace.parquet").write_bytes(damaged[: len(damaged) // 2] + b"x" + damaged[len(damaged) // 2 + 1 :])
    (copy / "broken.csv").write_text('a,b\n"1,2\n')
    (copy / "empty.csv").write_text("")
    (copy / "orders.csv").write_text("order_policy,order_peak_bytes,order_bound_bytes\n")
    (copy / "theirs.csv").write_text("city,height\nA,1\n")
    (copy / "notes.txt").write_text("hello")
    found = find_results(copy)
    assert [each.rpartition("/")[2].split(":")[0] for each in found.failed] == ["broken.csv", "toy.trace.parquet"]
    assert found.left_out == ["empty.csv: a table without rows", "orders.csv: a table without rows"]
    assert named(found, "theirs.csv").kind == kinds.TABLE


@pytest.mark.parametrize("made", ["nothing", "text"])
def test_a_folder_without_results_is_refused(tmp_path, made):
    folder = tmp_path / "x"
    if made == "text":
        folder.mkdir()
        (folder / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"x: (no such file or folder|holds no result); allowed: what `simulate`"):
        find_results(folder)


def test_a_table_without_a_column_is_refused_by_name(tmp_path):
    runs_table().drop(columns="latency_p95_ms").to_csv(tmp_path / "runs.csv", index=False)
    with pytest.raises(InputError, match=r"runs.csv: lacks column 'latency_p95_ms'"):
        find_results(tmp_path / "runs.csv")


def test_what_runme_wrote_is_read_by_its_tables(tmp_path):
    """Records and other folders beside the tables are what they were made of."""
    for name in ("tables", "figures", "simulated/cpu/images"):
        (tmp_path / name).mkdir(parents=True)
    rows = {
        "set": "cpu/images",
        "status": ["ok", "unstable", "failed"],
        "reason": ["", "", "no such file"],
        "k": [1, 2, 3],
    }
    pd.DataFrame(rows).to_csv(tmp_path / "tables/load_vs_k_places.csv", index=False)
    runs_table().to_csv(tmp_path / "simulated/cpu/images/runs.csv", index=False)
    (tmp_path / "figures/load_vs_k.png").write_bytes(b"")
    found = find_results(tmp_path)
    assert ([each.name for each in found.results], [*found.pictures]) == (
        ["tables/load_vs_k_places.csv"],
        ["load_vs_k"],
    )
    assert found.results[0].about == "load_vs_k"
    assert found.left_out == ["simulated/: what the tables were made of"]
    assert found.results[0].doubts == (
        "cpu/images 3: failed: no such file.", "1 row unstable: more arrives than can be served.",
    )  # fmt: skip


def test_the_first_sentence_of_a_claim():
    claim = "Is it linear? No. A straight line is rejected (F = 1. p < 0.1; really) at every k that was measured. More."
    assert first_sentence(claim) == claim.removesuffix(" More.")
    assert first_sentence(f"{'word ' * 100}end.").endswith("word ...")


def test_a_recording_in_progress_is_one_trace(tmp_path):
    """Its parts are a folder, of which the finished ones are read together."""
    trace = small_trace()
    with contextlib.suppress(KeyboardInterrupt), TraceWriter(tmp_path / "x.trace.parquet", trace.header, 100) as writer:
        writer.append(trace)
        raise KeyboardInterrupt
    parts = tmp_path / "x.trace.parts"
    assert len([*parts.glob("part-*.parquet")]) == 4
    experts, _ = find_results(parts).results
    assert experts.table["selections"].sum() == trace.T * trace.L * 2
