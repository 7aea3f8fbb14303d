"""Simulated rows are means over the replications where there is a table of them, and its faults are rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_replay.analysis.reading.log_sets import LogSet
from moe_replay.analysis.reading.seed_tables import Replicated, read_replicated
from moe_replay.analysis.tables.queue_size.rows import measured_rows
from moe_replay.traces.runs.run_statistics import run_statistics
from moe_replay.traces.runs.sweep_table import REPLICATIONS, SweepPoint, measured_point, save_sweep


def test_means_and_intervals_over_the_replications(one_at_a_time, tmp_path):
    points = []
    for seed in range(4):
        run = one_at_a_time(queue_size=2, seed=seed, source="simulated")
        points.append(measured_point(f"B2-s{seed}", run))
    save_sweep(tmp_path / REPLICATIONS, points, {"provenance": {}}, {})
    found = read_replicated(tmp_path)
    assert (len(found.runs), found.problem, len(found.digest) > 0) == (4, {}, True)
    log_set = LogSet("cpu", "toy", tmp_path, tmp_path)
    (row,) = measured_rows(log_set, [], 1, found)
    expected = np.mean([point.statistics.values["throughput_per_s"] for point in points])
    assert row["throughput_per_s"] == pytest.approx(expected)
    assert (row["source"], row["replications"], row["interval"]) == ("simulated", 4, "t over 4 replications")
    assert run_statistics(run).values["throughput_per_s"] == points[-1].values["throughput_per_s"]


def test_a_failed_replication_and_a_damaged_table_are_rows_with_a_reason(one_at_a_time, tmp_path):
    good = measured_point("B2-s0", one_at_a_time(queue_size=2, seed=0, source="simulated"))
    bad = replace(SweepPoint("B2-s1", good.config), reason="no such cost")
    save_sweep(tmp_path / REPLICATIONS, [good, bad], {"provenance": {}}, {})
    assert read_replicated(tmp_path).problem == {"B2-s1": "no such cost"}
    (tmp_path / REPLICATIONS).write_bytes((tmp_path / REPLICATIONS).read_bytes()[:-40])
    found = read_replicated(tmp_path)
    rows = measured_rows(LogSet("cpu", "toy", tmp_path, tmp_path), [], 1, found)
    assert [(row["status"], row["run"]) for row in rows] == [("failed", REPLICATIONS)]
    assert str(tmp_path) not in rows[0]["reason"]


def test_no_table_no_replications(tmp_path):
    assert read_replicated(None) == read_replicated(Path(tmp_path)) == Replicated()
