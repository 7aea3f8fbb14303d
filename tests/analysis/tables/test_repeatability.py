"""How far a machine agrees with itself, on a table whose answer can be worked out in the margin."""

import pandas as pd
import pytest

from moe_replay.analysis.tables.fidelity.repeatability import repeatability, repeatability_sentence


def fidelity_table(executed, simulated, **more):
    shared = {
        "set": "cpu/toy", "scheduler": "queues", "arrivals": "closed", "setting": "N=8", "queue_size": 4.0,
        "departures": "", "status": "ok", "throughput_error_percent": 0.0,
    }  # fmt: skip
    return pd.DataFrame(
        [
            {**shared, "executed_throughput": e, "simulated_throughput": s, **more}
            for e, s in zip(executed, simulated, strict=True)
        ]
    )


def test_spread_and_error_of_the_mean():
    row = repeatability(fidelity_table([90.0, 100.0, 110.0], [105.0, 105.0, 105.0])).iloc[0]
    assert row["replications"] == 3
    assert row["executed_cv_percent"] == pytest.approx(10)
    assert row["simulated_cv_percent"] == 0
    assert row["mean_error_percent"] == pytest.approx(5)


def test_configurations_stay_apart_and_single_runs_say_nothing():
    both = pd.concat(
        [
            fidelity_table([90.0, 110.0], [100.0, 100.0]),
            fidelity_table([50.0], [60.0], queue_size=8.0),
            fidelity_table([1.0, 1.0], [2.0, 2.0], status="failed"),
        ]
    )
    assert repeatability(both)["queue_size"].tolist() == [4.0]
    alone = repeatability(fidelity_table([50.0], [60.0]))
    assert alone["status"].tolist() == ["skipped"]
    assert repeatability_sentence(alone) == ""


def test_sentence_speaks_of_closed_loops_alone():
    table = repeatability(
        pd.concat(
            [
                fidelity_table([90.0, 100.0, 110.0], [105.0, 105.0, 105.0]),
                fidelity_table([1.0, 9.0], [50.0, 50.0], arrivals="poisson", setting="load 0.30"),
            ]
        )
    )
    sentence = repeatability_sentence(table)
    assert "to 10.0 % (median" in sentence
    assert "off by 5.0 % (worst 5.0 %)" in sentence


def test_nothing_compared_is_a_named_hole():
    assert repeatability(pd.DataFrame([{"set": "x", "status": "missing"}]))["status"].tolist() == ["missing"]
