"""The queue-size table: holes of its grid, where the machine is fully used, and what a doubling costs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from moe_replay.analysis.estimates.replications import combined, steady
from moe_replay.analysis.reading.setting_words import describe_config
from moe_replay.analysis.tables.queue_size.claim import queue_size_claim
from moe_replay.analysis.tables.queue_size.rows import (
    fully_used_from,
    hole_rows,
    measured_rows,
    queue_size_table,
    run_ends,
    step_rows,
    theory_rows,
    tradeoff_rows,
)
from moe_replay.simulate.interface.replaying import replay
from moe_replay.traces.new_traces import synthetic
from moe_replay.traces.runs.run_statistics import run_statistics

SIZES = (1, 2, 4, 8)
RATES = {1: 100.0, 2: 200.0, 4: 390.0, 8: 400.0}  # 95 % of 400 is 380: fully used from B=4 on
LATENCY = {1: np.nan, 2: 10.0, 4: 20.0, 8: 40.0}


def row(mode, size, source="executed", **more):
    fixed = {
        "set": "cpu/toy", "source": source, "scheduler": "queues", "arrivals": mode, "departures": "",
        "queue_size": size, "in_flight": None, "load": None, "rate_per_s": None, "max_step": None,
        "status": "ok", "reason": "",
    }  # fmt: skip
    return fixed | more


def closed(size, in_flight=64, **more):
    throughput = RATES[size] * (1 if in_flight == 64 else 0.5)
    return row("closed", size, setting=f"N={in_flight}", in_flight=in_flight, throughput_per_s=throughput, **more)


def poisson(size, **more):
    values = {
        "latency_p50_ms": LATENCY[size],
        "latency_mean_ms": LATENCY[size],
        "status": "ok" if size > 1 else "unstable",
    }
    return row("poisson", size, setting="load 0.60", load=0.6, rate_per_s=150.0, **values, **more)


@pytest.fixture
def table():
    return queue_size_table([*map(closed, SIZES), *[closed(size, 8) for size in SIZES], *map(poisson, SIZES)])


def test_fully_used_counts_from_the_largest_loop(table):
    points = table[(table["arrivals"] == "closed") & (table["in_flight"] == 64)]
    assert fully_used_from(points) == 4
    assert fully_used_from(points, share=0.98) == 8
    assert np.isnan(fully_used_from(points.iloc[:0]))


def test_steps_by_hand(table):
    rows = step_rows(table, "cpu/toy", "executed")
    assert [(r["from_queue_size"], r["to_queue_size"], r["status"]) for r in rows] == [
        (1, 2, "unstable"), (2, 4, "ok"), (4, 8, "ok"),
    ]  # fmt: skip
    assert rows[1]["throughput_gain_percent"] == pytest.approx(95)
    assert rows[1]["latency_p50_ratio"] == pytest.approx(2)
    assert rows[1]["ms_per_percent"] == pytest.approx(10 / 95)


def test_the_claim_names_the_size_and_the_price(table):
    steps = pd.DataFrame(step_rows(table, "cpu/toy", "executed"))
    found = queue_size_claim(table, steps)
    assert (
        "fully used from B=4 on, where it reaches 390 of at most 400 passes/s, 4.0 times as many as at B=1"
        in found["claim"]
    )
    assert "from B=2 to 4 each doubling of B gains 95.0 % throughput and costs a factor of 2.00" in found["claim"]
    assert "from B=4 to 8 each doubling of B gains 2.6 %" in found["claim"]
    numbers = found["numbers"]["cpu/toy"]
    assert numbers["fully_used_from_queue_size"] == 4
    assert numbers["stable"] == {"0.60": [2, 4, 8]}


def test_a_machine_that_still_gains_is_not_called_fully_used(table):
    short = table[table["queue_size"] < 8]
    claim = queue_size_claim(short, pd.DataFrame(step_rows(short, "cpu/toy", "executed")))["claim"]
    assert "no queue size up to B=4 uses the machine fully" in claim
    assert "still gains 95 %" in claim


def test_nothing_measured_is_said_so():
    table = queue_size_table([{"set": "cpu/toy", "status": "missing", "reason": "no runs"}])
    assert queue_size_claim(table, pd.DataFrame())["numbers"] == {}


def test_tradeoff_joins_saturation_and_latency(table):
    rows = tradeoff_rows(table, "cpu/toy", "executed")
    assert [(r["queue_size"], r["saturated_throughput_per_s"]) for r in rows] == [
        (1, 100),
        (2, 200),
        (4, 390),
        (8, 400),
    ]


def test_the_longest_of_equal_points_counts(table):
    longer = queue_size_table([*table.assign(sequences=10).to_dict("records"), poisson(4, sequences=20)])
    longer.loc[longer["sequences"] == 20, "latency_p50_ms"] = 30.0
    rows = step_rows(longer, "cpu/toy", "executed")
    assert [row["latency_p50_ratio"] for row in rows[1:]] == pytest.approx([3, 4 / 3])


def test_a_point_that_the_grid_implies_is_a_hole():
    rows = [closed(1), closed(2), closed(1, 8), closed(2, 8), closed(8, 8)]
    (hole,) = hole_rows(rows)
    assert (hole["setting"], hole["queue_size"], hole["status"]) == ("N=64", 8, "missing")
    assert hole_rows(rows[:4]) == []


def test_open_and_closed_grids_are_apart():
    assert hole_rows([closed(1), closed(2), poisson(2)]) == []


def test_theory_without_costs_is_missing_with_its_reason():
    rows = theory_rows([closed(1), closed(1, source="simulated")], None, None, "costs.parquet: no such file")
    assert [(r["status"], r["reason"]) for r in rows] == [("missing", "costs.parquet: no such file")]


def config(**more):
    plain = {
        "scheduler": "queues", "queue_size": 8, "dense_queue_size": None, "timeout_ns": None, "max_step": None,
        "arrivals": "closed", "in_flight": 64, "rate_per_s": None, "load": None, "k": None, "sequences": None,
        "seed": 0, "dense": True, "devices": 1, "placement": "contiguous",
    }  # fmt: skip
    return plain | more


@pytest.mark.parametrize(
    ("more", "departures"),
    [
        ({}, ""),
        ({"k": 4}, ""),
        ({"k": 2}, "k=2"),
        ({"dense_queue_size": 8}, ""),
        ({"dense_queue_size": 1}, "dense B=1"),
        ({"timeout_ns": 1_500_000}, "time-out 1.5 ms"),
        ({"devices": 2, "dense": False}, "no dense part, 2 devices, contiguous"),
    ],
)
def test_variants_are_named(more, departures):
    assert describe_config(config(**more), used_k=4)["departures"] == departures


def test_settings_are_named():
    named = {
        "N=64": {}, "load 0.60": {"arrivals": "poisson", "load": 0.6, "rate_per_s": 9.0},
        "9 per s": {"arrivals": "poisson", "rate_per_s": 9.0}, "all at once": {"arrivals": "all"},
    }  # fmt: skip
    assert {name: describe_config(config(**more), 4)["setting"] for name, more in named.items()} == {
        n: n for n in named
    }
    lockstep = describe_config(config(scheduler="lockstep", max_step=128), 4)
    assert (lockstep["queue_size"], lockstep["max_step"]) == (None, 128)


def test_the_table_is_of_passes_whatever_else_runs_tell():
    """A simulated run of a trace that decodes tells times to tokens; its executed one, recorded before, does not."""
    trace = synthetic(sequences=60, layers=2, experts=4, k=1, prompt=4, decode=3, seed=1)
    run = replay(trace, (1e-6, 1e-7), queue_size=2, arrivals="closed", in_flight=4)
    pair = SimpleNamespace(statistics={"simulated": run.statistics}, problem={})
    (row,) = measured_rows(SimpleNamespace(name="s"), [pair], 1)
    assert "ttft_p95_ms" in run.statistics.values
    assert row["throughput_per_s"] == run.statistics.values["throughput_per_s"]
    assert not [name for name in row if name.startswith(("ttft", "tpot"))]


def test_the_ends_of_two_runs_are_the_runs_and_their_middle_is_the_row(one_at_a_time):
    runs = [run_statistics(one_at_a_time(seed=0)), run_statistics(one_at_a_time(seed=1, slower=2))]
    row = steady(combined(runs))
    ends = run_ends(runs, row)
    wanted = {"throughput_per_s": (50, 100), "latency_p50_ms": (10, 20), "latency_p95_ms": (10, 20)}
    for name, (least, most) in wanted.items():
        assert (ends[f"{name}_least"], ends[f"{name}_most"]) == (pytest.approx(least), pytest.approx(most))
        assert row[name] == pytest.approx((least + most) / 2)
    unstable = row | {"status": "unstable", "latency_p50_ms": np.nan}
    assert np.isnan(run_ends(runs, unstable)["latency_p50_ms_least"])  # what the row does not tell has no ends
