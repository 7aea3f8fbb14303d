"""Vision transformers compared: rows, ratios within a repetition, the sentence, and what is missing or impossible."""

import numpy as np
import pandas as pd
import pytest
import vision_logs as logs

from moe_replay.analysis.reading.csv_logs import read_csv_log
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.tables.random_routing.build import build_random_routing
from moe_replay.analysis.tables.random_routing.claim import random_routing_claim
from moe_replay.analysis.tables.random_routing.rows import epoch_rows, read_results, read_times, result_rows
from moe_replay.traces.errors import InputError


def rows_of(results=None, times=None):
    table = logs.results() if results is None else results
    return pd.DataFrame(result_rows("cpu/toy", table, times)).set_index("label", drop=False)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "logs" / "cpu-toy" / "cifar10"
    made.mkdir(parents=True)
    logs.write_vision_logs(made)
    return made


def built(folder, out):
    return build_random_routing(Inputs(find_log_sets(folder.parents[1], None)), out)


def test_one_row_per_configuration_dense_first():
    rows = rows_of(times=logs.times())
    assert list(rows.index) == ["dense", "switch, 4 experts", "switch, 8 experts", "random routing, 4 experts"]
    switch = rows.loc["switch, 8 experts"]
    assert switch[["accuracy_percent", "accuracy_percent_min", "accuracy_percent_max"]].tolist() == pytest.approx(
        [62.1, 62.0, 62.2]
    )
    assert switch[["over_dense_points", "over_dense_points_min"]].tolist() == pytest.approx([2.0, 2.0])
    assert switch[["best_epochs", "first_epochs_over"]].tolist() == ["8; 7", "5; 6"]
    assert rows.loc["random routing, 4 experts", "first_epochs_over"] == "not reached"
    assert rows["deployed_parameters"].tolist() == [1000, 4000, 8000, 1000]


def test_ratios_are_formed_within_a_repetition():
    """A machine that slows down for all alike leaves the ratio exact, though the times themselves spread."""
    random = rows_of(times=logs.times(drift=0.5)).loc["random routing, 4 experts"]
    ratio = random[["inference_over_dense_low", "inference_over_dense", "inference_over_dense_high"]].tolist()
    assert ratio == pytest.approx([1.01] * 3)
    assert random["inference_s_max"] > 2 * random["inference_s_min"]


def test_times_of_a_part_are_scaled_to_60000_images():
    dense = rows_of(times=logs.times(drift=0)).loc["dense"]
    assert dense["training_s"] == pytest.approx(2.0 * 60000 / 5000)
    assert dense["inference_s"] == pytest.approx(1.0)


def test_a_missing_seed_is_incomplete():
    rows = rows_of(logs.results().drop(index=3))
    assert rows["status"].tolist() == ["ok", "incomplete", "ok", "ok"]
    assert rows["reason"].iloc[1] == "1 seeds are missing"


def test_without_dense_there_is_nothing_to_compare_with():
    results = logs.results()
    rows = rows_of(results[results["variant"] != "dense"], logs.times())
    assert rows["over_dense_points"].isna().all()
    assert np.isfinite(rows["accuracy_percent"]).all()


def test_epochs_keep_the_draws_beside_the_average():
    rows = pd.DataFrame(epoch_rows("cpu/toy", logs.epochs()))
    random = rows[rows["variant"] == "random"]
    assert random["accuracy_percent"].max() == pytest.approx(58.0)
    assert random["drawn_accuracy_percent"].max() == pytest.approx(58.0 * 8 / 9)
    assert rows.loc[rows["variant"] == "dense", "drawn_accuracy_percent"].isna().all()


def test_epochs_have_the_mean_over_the_seeds_of_their_configuration():
    epochs = logs.epochs()
    epochs["test_accuracy"] = epochs["test_accuracy"] / 2 + 0.1 * epochs["seed"]
    rows = pd.DataFrame(epoch_rows("cpu/toy", epochs))
    for _, own in rows.groupby(["variant", "experts", "consistency", "epoch"]):
        assert own["accuracy_percent"].nunique() == 2
        mean = sum(own["accuracy_percent"]) / 2
        assert own["mean_accuracy_percent"].tolist() == pytest.approx([mean, mean])


def test_claim_says_who_is_better_and_what_it_costs():
    claim = random_routing_claim(rows_of(times=logs.times()))
    text = claim["claim"]
    assert "switch, 8 experts 62.1 % (62.0 to 62.2), +2.0 points, above dense in every seed" in text
    assert "random routing, 4 experts 58.1 % (58.0 to 58.2), -2.0 points, below dense in every seed" in text
    assert "training 1.50x (1.50 to 1.50), inference 1.30x" in text
    assert "inference cost, within 5%? Yes: 1.01x" in text
    assert claim["numbers"]["cpu/toy"]["dense"]["inference_over_dense"] == 1


def test_claim_does_not_call_a_dearer_model_equal():
    times = logs.times()
    slow = (times["variant"] == "random") & (times["what"] == "inference")
    times.loc[slow, "seconds"] *= 1.2
    assert "Shown in 0 of 1 cases: 1.21x" in random_routing_claim(rows_of(times=times))["claim"]


def test_build_writes_tables_and_reads_sets_that_have_logs(folder, tmp_path):
    other = folder.parent / "digits"
    other.mkdir()
    (other / "quality.csv").write_text("")  # a set without vision logs is no hole
    assert built(folder, tmp_path / "out") == []
    assert set(pd.read_csv(tmp_path / "out" / "random_routing.csv")["set"]) == {"cpu-toy/cifar10"}
    assert len(pd.read_csv(tmp_path / "out" / "random_routing_epochs.csv")) == 4 * 2 * 8


@pytest.mark.parametrize("name", ["vision_times.csv", "vision_epochs.csv"])
def test_a_missing_part_is_a_hole_beside_the_rest(name, folder, tmp_path):
    (folder / name).unlink()
    (hole,) = built(folder, tmp_path / "out")
    assert f"missing: {name}: no such file" in hole
    rows = pd.read_csv(tmp_path / "out" / "random_routing.csv")
    assert rows["status"].tolist() == ["ok"] * 4 + ["missing"]


def test_no_set_with_vision_logs_is_a_hole(folder, tmp_path):
    (folder / "vision.csv").rename(folder / "quality.csv")
    (hole,) = built(folder, tmp_path / "out")
    assert "no set holds vision.csv" in hole


@pytest.mark.parametrize(
    ("reader", "table", "column", "value", "words"),
    [
        (
            read_results,
            "results",
            "best_accuracy_percent",
            101,
            r"row 3: best_accuracy_percent is 101.*allowed 0\.\.100",
        ),
        (read_times, "times", "seconds", 0, r"row 3: seconds is 0.*allowed 1e-09"),
        (read_times, "times", "seconds", "soon", r"row 3: seconds is soon"),
    ],
)
def test_impossible_values_are_refused(reader, table, column, value, words, tmp_path):
    frame = getattr(logs, table)().astype({column: object})
    frame.loc[3, column] = value
    frame.to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(InputError, match=words):
        reader(tmp_path / "log.csv")


def test_missing_columns_and_files_are_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_csv_log(tmp_path / "none.csv", {})
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(InputError, match="not a CSV table"):
        read_csv_log(tmp_path / "empty.csv", {})
    logs.times().drop(columns="what").to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(InputError, match="column what is missing"):
        read_times(tmp_path / "log.csv")
