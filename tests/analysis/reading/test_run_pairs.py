"""Executed against simulated: equal orders, the first difference, and files that cannot be read."""

import pandas as pd
import pytest

from moe_replay.analysis.reading.log_sets import LogSet
from moe_replay.analysis.reading.run_pairs import read_pair, read_pairs
from moe_replay.analysis.tables.fidelity.rows import fidelity_claim, fidelity_rows, fidelity_summary


def folders(tmp_path):
    log_set = LogSet("cpu", "toy", tmp_path / "logs/cpu/toy", tmp_path / "simulated/cpu/toy")
    log_set.executed.mkdir(parents=True)
    log_set.simulated.mkdir(parents=True)
    return log_set


def pair_of(tmp_path, executed, simulated):
    log_set = folders(tmp_path)
    executed.save(log_set.executed, "run")
    simulated.save(log_set.simulated, "run")
    return read_pair("run", log_set.executed, log_set.simulated)


def test_equal_orders_are_identical_whatever_the_durations(tmp_path, one_at_a_time):
    pair = pair_of(tmp_path, one_at_a_time(), one_at_a_time(slower=2, source="simulated"))
    assert (pair.identical, pair.first_difference) == ("yes", "")


def test_the_first_difference_is_named(tmp_path, one_at_a_time):
    executed, simulated = one_at_a_time(), one_at_a_time(source="simulated")
    simulated.batches["members_crc"][17] = 255
    simulated.batches["block"][30] = 9
    pair = pair_of(tmp_path, executed, simulated)
    assert pair.identical == "no"
    assert pair.first_difference == (
        "batch 17: executed (layer 0, block 1, size 1, members 00000008), "
        "simulated (layer 0, block 1, size 1, members 000000ff)"
    )


def test_a_missing_tail_is_a_difference(tmp_path, one_at_a_time):
    executed, simulated = one_at_a_time(), one_at_a_time(source="simulated")
    for name, column in simulated.batches.items():
        simulated.batches[name] = column[:-1]
    pair = pair_of(tmp_path, executed, simulated)
    assert (pair.identical, pair.first_difference) == ("no", "executed 200 batches, simulated 199")


def test_another_trace_is_not_the_same_run(tmp_path, one_at_a_time):
    pair = pair_of(tmp_path, one_at_a_time(), one_at_a_time(source="simulated", header={"trace_digest": "other"}))
    assert pair.identical == "no"
    assert "trace_digest" in pair.first_difference


def test_order_under_poisson_or_a_time_out_is_not_comparable(tmp_path, one_at_a_time):
    for number, config in enumerate(({"timeout_ns": 5}, {"arrivals": "poisson", "rate_per_s": 100.0, "seed": 0})):
        pair = pair_of(tmp_path / str(number), one_at_a_time(**config), one_at_a_time(source="simulated", **config))
        assert pair.identical == "n.a."


def test_errors_have_signs(tmp_path, one_at_a_time):
    log_set = folders(tmp_path)
    one_at_a_time().save(log_set.executed, "run")
    one_at_a_time(slower=2, source="simulated").save(log_set.simulated, "run")
    (row,) = fidelity_rows(log_set, read_pairs(log_set), None, False)
    assert row["throughput_error_percent"] == -50
    assert row["latency_p50_error_percent"] == 100
    assert row["status"] == "ok"


def test_damage_and_absence_are_rows_with_reasons(tmp_path, one_at_a_time):
    log_set = folders(tmp_path)
    for number, name in enumerate(("a-damaged", "b-half", "c-alone", "d-swapped", "e-fine")):
        one_at_a_time(queue_size=number + 1).save(log_set.executed, name)
        if name != "c-alone":
            source = "executed" if name == "d-swapped" else "simulated"
            one_at_a_time(queue_size=number + 1, source=source).save(log_set.simulated, name)
    damaged = log_set.executed / "a-damaged.batches.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    (log_set.simulated / "b-half.passes.parquet").unlink()
    rows = {row["run"]: row for row in fidelity_rows(log_set, read_pairs(log_set), None, False)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "a-damaged": "failed", "b-half": "failed", "c-alone": "missing", "d-swapped": "failed", "e-fine": "ok",
    }  # fmt: skip
    assert "a-damaged.batches.parquet: not a whole Parquet file" in rows["a-damaged"]["reason"]
    assert "b-half.passes.parquet: no such file" in rows["b-half"]["reason"]
    assert "executed, expected simulated" in rows["d-swapped"]["reason"]
    assert not any(str(tmp_path) in row["reason"] for row in rows.values())


def test_a_part_of_the_grid_is_no_failure(tmp_path, one_at_a_time):
    log_set = folders(tmp_path)
    one_at_a_time(seed=0).save(log_set.executed, "s0")
    one_at_a_time(seed=1).save(log_set.executed, "s1")
    one_at_a_time(queue_size=2, seed=0).save(log_set.executed, "other")
    one_at_a_time(seed=0, source="simulated").save(log_set.simulated, "s0")
    pairs = read_pairs(log_set)
    assert [row["status"] for row in fidelity_rows(log_set, pairs, None, False)] == ["missing", "ok", "skipped"]
    assert [row["status"] for row in fidelity_rows(log_set, pairs, None, True)] == ["skipped", "ok", "skipped"]


def test_summary_and_claim(tmp_path, one_at_a_time):
    log_set = folders(tmp_path)
    for seed, slower in enumerate((1, 2, 4)):
        one_at_a_time(seed=seed).save(log_set.executed, f"s{seed}")
        one_at_a_time(seed=seed, slower=slower, source="simulated").save(log_set.simulated, f"s{seed}")
    table = pd.DataFrame(fidelity_rows(log_set, read_pairs(log_set), None, False))
    summary = fidelity_summary(table)
    whole = summary.iloc[-1]
    assert (whole["set"], whole["arrivals"], whole["runs"]) == ("all", "all", 3)
    assert whole["throughput_median_percent"] == 50
    assert whole["throughput_bias_percent"] == pytest.approx((0 - 50 - 75) / 3)
    assert whole["latency_p95_bias_percent"] == pytest.approx((0 + 100 + 300) / 3)
    assert whole["latency_p95_worst_percent"] == 300
    claim = fidelity_claim(table, summary)
    assert "3 of 3 runs" in claim["claim"]
    assert "median error of 50.0 % (worst 75.0 %, bias -41.7 %)" in claim["claim"]


def test_no_comparison_is_said_so():
    table = pd.DataFrame([{"set": "cpu/toy", "status": "missing", "reason": "no executed runs"}])
    assert fidelity_claim(table, fidelity_summary(table))["numbers"] == {}
