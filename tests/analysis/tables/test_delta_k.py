"""K per sample against fixed K, in worlds whose truth is known and on examples worked by hand."""

import json

import numpy as np
import pandas as pd
import pytest
from operating_worlds import CURVE, LAYERS, World, study_world

from moe_replay.analysis.estimates.intervals import Interval
from moe_replay.analysis.reading.inputs import Inputs
from moe_replay.analysis.reading.log_sets import find_log_sets
from moe_replay.analysis.tables.delta_k.build import build_delta_k
from moe_replay.analysis.tables.delta_k.equal_times import equal_time, read_times
from moe_replay.analysis.tables.delta_k.histogram import group_rows, histogram_rows
from moe_replay.analysis.tables.delta_k.oracle_bound import oracle_rows
from moe_replay.analysis.tables.delta_k.point_series import Series, arranged, replicated
from moe_replay.analysis.tables.delta_k.rows import (
    comparison_rows,
    curve_rows,
    interpolated,
    primary_series,
    read_at,
    verdict,
)
from moe_replay.traces.errors import InputError
from moe_replay.traces.operating_points import operating_points

POST_HOC, TRAINED = Series("fixed-4", "rule", "delta", 2.0), Series("delta", "rule", "delta", 2.0)


def compared(points, replicates=400):
    """The comparisons of a study as a table, indexed by model, rule, how, baseline."""
    study = arranged(points)
    rows = comparison_rows("toy", study, replicated(study, np.random.default_rng(0), replicates), None)
    return pd.DataFrame(rows).set_index(["model", "rule", "how", "baseline"]).sort_index()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.31, 0.9, "beats"),
        (0.3, 0.9, "undecided"),
        (-0.9, -0.31, "loses"),
        (-0.29, 0.29, "no difference"),
        (0.05, 0.29, "no difference"),
        (-0.3, 0.29, "undecided"),
        (-0.5, 0.5, "undecided"),
    ],
)
def test_the_verdict_is_read_off_the_interval(low, high, expected):
    assert verdict(Interval((low + high) / 2, low, high)) == expected


def test_a_gain_of_one_point_beats_every_baseline_at_equal_mean_k():
    table = compared(study_world(20_000, 8, 0.012, np.random.default_rng(1)))
    for point in (("fixed-4", "delta", "rule"), ("delta", "delta", "rule")):
        rows = table.loc[point]
        assert (rows["verdict"] == "beats").all()
        assert sorted(rows.index) == ["same weights", "shuffled", "trained at fixed k"]
        width = rows["difference_points_high"] - rows["difference_points_low"]  # some four standard errors
        assert ((rows["difference_points"] - 1.2).abs() < width).all()
        assert (width < 0.9).all()
    assert (table.loc[("fixed-4", "entropy", "rule"), "verdict"] != "beats").all()


def test_no_gain_is_no_difference_with_many_samples_and_undecided_with_few():
    many = compared(study_world(60_000, 6, 0.0, np.random.default_rng(2)), replicates=200)
    assert (many.loc[("fixed-4", "delta", "rule"), "verdict"] == "no difference").all()
    few = compared(study_world(500, 6, 0.0, np.random.default_rng(2)))
    assert (few.loc[("fixed-4", "delta", "rule"), "verdict"] == "undecided").all()


def test_a_rule_that_does_what_fixed_k_does_differs_by_nothing():
    world = World(600, 3, np.random.default_rng(3), own_noise=0.0)
    world.fixed("fixed-4", [1, 2, 3])
    for seed in range(3):
        world.add(seed, CURVE[1], LAYERS * 2, model="fixed-4", how="rule", rule="delta:0.9:8", target_k=2.0)
    (row,) = compared(world.whole()).loc[[("fixed-4", "delta", "rule", "same weights")]].to_dict("records")
    found = [row[f"difference_points{end}"] for end in ("", "_low", "_high")]
    assert found == pytest.approx([0, 0, 0], abs=1e-9)
    assert row["k_deviation"] == 0


def test_the_mixture_by_hand():
    """Two of four samples at k = 1 and two at k = 2 are expected to reach the middle of both accuracies."""
    accuracy_KBS = np.array([[[40.0, 50.0]], [[60.0, 52.0]], [[70.0, 60.0]]])
    at_BS = np.array([[1.5, 2.25]])
    assert interpolated(at_BS, 1, accuracy_KBS).tolist() == [[50.0, 54.0]]
    ends = interpolated(np.array([[1.0, 3.0]]), 1, accuracy_KBS)
    assert ends.tolist() == [[40.0, 60.0]]


def test_the_mixture_is_what_drawing_samples_gives():
    """Answer a random part of the samples with 3 experts and the rest with 2: on average the interpolated accuracy."""
    generator = np.random.default_rng(4)
    right_KN = generator.random((2, 1000)) < np.array([[0.4], [0.6]])
    drawn = [np.where(generator.permutation(1000) < 250, right_KN[1], right_KN[0]).mean() for _ in range(400)]
    expected = interpolated(np.array([[2.25]]), 2, right_KN.mean(1)[:, None, None])[0, 0]
    half_width = 4 * np.std(drawn) / 20
    assert abs(np.mean(drawn) - expected) < half_width < 0.005


def test_a_mean_k_outside_the_baseline_gets_no_number():
    world = World(300, 2, np.random.default_rng(5))
    world.fixed("fixed-4", [1, 2])
    for seed, k in enumerate((1.9, 2.1)):
        selections_N = np.full(300, 2 * LAYERS)
        selections_N[:120] += round((k - 2) * LAYERS * 300 / 120)
        world.add(seed, 0.5, selections_N, model="fixed-4", how="rule", rule="delta:0.9:8", target_k=2.0)
    study = arranged(world.whole())
    draws = replicated(study, np.random.default_rng(0), 20)
    sweep = study.sweep("fixed-4")
    found = read_at("same weights", sweep, draws.mean_k[POST_HOC], study, draws)
    assert found.accuracy_BS is None
    assert found.reason == "mean K 2.10 lies outside the baseline's 1 to 2 (1 of 2 seeds)"
    assert read_at("same weights", sweep[:1], draws.mean_k[POST_HOC], study, draws).accuracy_BS is None


def test_the_check_by_variance_components_is_about_the_same_difference():
    table = compared(study_world(9000, 8, 0.012, np.random.default_rng(10)))
    middle = table[["difference_points_components_low", "difference_points_components_high"]].mean(axis=1)
    assert np.allclose(middle, table["difference_points"], atol=1e-6)
    width = (table["difference_points_components_high"] - middle) / (
        (table["difference_points_high"] - table["difference_points_low"]) / 2
    )
    assert width.between(0.5, 1.1).all()  # narrower at most by the root of 3, wider only by Student's t


def test_the_primary_comparisons_are_those_stated_beforehand():
    world = World(300, 2, np.random.default_rng(5))
    for model in ("fixed-4", "delta-a", "delta-b"):
        world.fixed(model, [1, 2])
        world.dynamic(model, 0.0, validated={"delta-b": 0.9}.get(model, 0.5))
    world.dynamic("fixed-4", 0.0, rule="top-p", validated=0.95)
    world.dynamic("delta-b", 0.0, how="trained", target=None)
    study = arranged(world.whole())
    assert primary_series(study) == {
        POST_HOC: "same weights", Series("delta-b", "rule", "delta", 2.0): "trained at fixed k"
    }  # fmt: skip
    table = compared(world.whole(), replicates=50)
    assert set(table.index[table["best_on_validation"]].droplevel("baseline")) == {
        ("fixed-4", "top-p", "rule"), ("delta-b", "delta", "rule")
    }  # fmt: skip
    assert table["primary"].sum() == 2


def test_curves_hold_the_family_and_every_models_own_sweep():
    study = arranged(study_world(300, 2, 0.0, np.random.default_rng(6)))
    rows = pd.DataFrame(curve_rows("toy", study, replicated(study, np.random.default_rng(0), 50)))
    assert rows.groupby("curve")["k"].apply(list).to_dict() == {
        "trained at fixed k": [1, 2, 3, 4], "fixed-4 at k": list(range(1, 9)), "delta at k": list(range(1, 9))
    }  # fmt: skip


def by_hand(rows, points):
    """Points from rows of right answers, as text: one row per point, all with the same four samples."""
    right_PN = np.array([[letter == "r" for letter in row] for row in rows])
    selections_PN = np.full(right_PN.shape, LAYERS)
    return operating_points(np.array([0, 0, 1, 1]), right_PN, selections_PN, {"points": points, "layers": LAYERS})


def test_the_oracle_by_hand():
    """Samples: right at k = 1; at 2; at 3 only; never. Luck: two tries, the second right where the first was not."""
    points, rows = [], []
    for seed in (0, 1):
        for k, row in enumerate(("r...", "rr..", "..r."), start=1):
            points.append({"model": "fixed-4", "how": "fixed", "k": k, "seed": seed})
            rows.append(row)
        for number, row in enumerate(("rr..", "..rr", "...."), start=1):
            points.append({"model": "fixed-4", "how": "noisy", "k": 4, "number": number, "seed": seed})
            rows.append(row)
    found = pd.DataFrame(oracle_rows("toy", arranged(by_hand(rows, points)))).set_index("tries")
    assert found["oracle_percent"].tolist() == [25, 50, 75]
    assert found["luck_percent"].tolist() == [50, 100, 100]
    assert found["fixed_percent"].tolist() == [25, 50, 25]
    assert found["oracle_mean_k"].tolist() == [1, 1.5, 2]
    assert found["oracle_gain_points"][3] == pytest.approx(75 - 100 / 3)
    assert found["luck_share"][3] == pytest.approx((100 - 100 / 3) / (75 - 100 / 3))
    assert found["over_luck_points"].tolist() == [-25, -50, -25]
    assert np.isnan(found["luck_share"][1])


def test_who_gets_many_experts_by_hand():
    points = [{"model": "fixed-4", "how": "rule", "rule": "delta:1:8", "target_k": 2.0, "seed": s} for s in (0, 1)]
    right_PN = np.array([[1, 1, 0, 0], [1, 0, 0, 0]], bool)
    selections_PN = np.array([[4, 6, 12, 8], [4, 8, 8, 12]])
    header = {"points": points, "layers": LAYERS}
    study = arranged(operating_points(np.array([0, 0, 1, 1]), right_PN, selections_PN, header))
    shares = pd.DataFrame(histogram_rows("toy", study, POST_HOC)).set_index(["group", "k"])["share_percent"]
    assert shares["right"].to_dict() == pytest.approx({1.0: 200 / 3, 1.5: 100 / 3})
    assert shares["wrong"].to_dict() == {2.0: 60, 3.0: 40}
    assert shares["class 0"].to_dict() == {1.0: 50, 1.5: 25, 2.0: 25}
    assert shares.groupby("group").sum().tolist() == pytest.approx([100] * 5)
    draws = replicated(study, np.random.default_rng(0), 50)
    means = pd.DataFrame(group_rows("toy", study, draws, POST_HOC)).set_index("group")["mean_k"]
    assert means["right"] == pytest.approx((1.25 + 1) / 2)  # the mean over seeds
    assert means["wrong"] == pytest.approx((2.5 + 7 / 3) / 2)
    assert means["wrong - right"] == pytest.approx(means["wrong"] - means["right"])
    assert means["class 1"] == pytest.approx(2.5)


@pytest.fixture
def times(tmp_path):
    """k = 1, 2, 4 take 10, 20, 40 microseconds per image; delta takes 26 in the median."""
    names = ["model", "how", "rule", "target_k", "k", "repetition", "images", "seconds"]
    rows = [("fixed-4", "fixed", None, None, k, r, 1000, 0.01 * k) for k in (1, 2, 4) for r in range(3)]
    rows += [("fixed-4", "rule", "delta:0.9:8", 2.0, None, r, 1000, s) for r, s in enumerate((0.025, 0.026, 0.9))]
    path = tmp_path / "dynamic_k_times.csv"
    pd.DataFrame(rows, columns=names).to_csv(path, index=False)
    return path


def test_equal_time_by_hand(times):
    table = read_times(times)
    found = equal_time(table, POST_HOC)
    assert (found.k, found.note) == (pytest.approx(2.6), "")
    assert (found.time_us, found.time_us_low, found.time_us_high) == pytest.approx((26, 25, 900))
    assert equal_time(table, TRAINED).note == "not timed"
    table.loc[table["how"] == "rule", "us_per_image"] = 5.0
    assert equal_time(table, POST_HOC).k == 1
    assert "faster than fixed k = 1" in equal_time(table, POST_HOC).note
    table.loc[table["how"] == "rule", "us_per_image"] = 41.0
    assert np.isnan(equal_time(table, POST_HOC).k)
    assert "slower than fixed k = 4" in equal_time(table, POST_HOC).note


@pytest.mark.parametrize(("column", "value"), [("seconds", -1), ("seconds", "soon"), ("images", 0)])
def test_impossible_times_are_refused(times, column, value):
    table = pd.read_csv(times).astype({column: object})
    table.loc[4, column] = value
    table.to_csv(times, index=False)
    with pytest.raises(InputError, match=f"row 4: {column} is {value}"):
        read_times(times)
    table.drop(columns="rule").to_csv(times, index=False)
    with pytest.raises(InputError, match="column rule is missing"):
        read_times(times)


def test_a_study_with_missing_seeds_is_refused():
    whole = study_world(20, 2, 0.0, np.random.default_rng(7))

    def without(chosen):
        keep = [place for place, point in enumerate(whole.points) if not chosen(point)]
        selections_PN = whole.columns["selections"].reshape(len(whole.points), -1)
        header = whole.header | {"points": [whole.points[place] for place in keep]}
        return operating_points(whole.label_N, whole.right_PN[keep], selections_PN[keep], header)

    with pytest.raises(InputError, match=r"fixed-4 rule delta 2.0 lacks seed 1"):
        arranged(without(lambda point: series_is(point, POST_HOC) and point["seed"] == 1))
    with pytest.raises(InputError, match="1 seed, needed 2"):
        arranged(without(lambda point: point["seed"] == 1))
    whole.points[1]["seed"] = 0
    whole.points[1].update(whole.points[0])
    with pytest.raises(InputError, match="is there twice for seed 0"):
        arranged(whole)


def series_is(point, series):
    return (point["model"], point["how"], point.get("target_k")) == (series.model, series.how, series.target_k) and (
        point["rule"].startswith(f"{series.rule}:")
    )


def built(tmp_path, *folders):
    """Build the tables from these folders of logs; returns holes and claim."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "quality.csv").touch()  # so that a set without operating points is a set
    found = build_delta_k(Inputs(find_log_sets(tmp_path / "logs", None)), tmp_path / "tables")
    return found, json.loads((tmp_path / "tables" / "claims.json").read_text())["delta_k"]


def test_the_build_claims_what_the_tables_say(tmp_path, times):
    first, second = (tmp_path / "logs" / "cpu-toy" / name for name in ("cifar10", "digits"))
    first.mkdir(parents=True)
    study_world(9000, 4, 0.02, np.random.default_rng(8)).save(first / "dynamic_k.parquet")
    times.rename(first / times.name)
    found, claim = built(tmp_path, first, second)
    assert found == []
    assert "Of 2 primary comparisons: 2 yes." in claim["claim"]
    assert "fixed-4, delta applied afterwards (mean K 2.00): yes:" in claim["claim"]
    assert "at equal time (k = 2.60)" in claim["claim"]
    assert "noisy tries of equal single accuracy" in claim["claim"]
    assert claim["numbers"]["cpu-toy/cifar10"]["fixed-4, delta"]["against same weights"]["primary"] is True
    table = pd.read_csv(tmp_path / "tables" / "delta_k.csv")
    assert set(table["set"]) == {"cpu-toy/cifar10"}  # a set without operating points is no hole where others have some
    assert set(table["status"]) == {"ok", "skipped"}


def test_no_operating_points_anywhere_is_a_hole(tmp_path):
    found, claim = built(tmp_path, tmp_path / "logs" / "cpu-toy" / "digits")
    assert found == ["all sets: missing: no set holds dynamic_k.parquet"]
    assert claim["claim"].startswith("No set holds")


def test_damaged_files_are_holes_with_reasons(tmp_path, times):
    folder = tmp_path / "logs" / "cpu-toy" / "digits"
    folder.mkdir(parents=True)
    path = folder / "dynamic_k.parquet"
    study_world(300, 2, 0.0, np.random.default_rng(9)).save(path)
    times.rename(folder / times.name)
    (folder / times.name).write_text("model,how\n")
    found, claim = built(tmp_path, folder)
    assert len(found) == 1
    assert "column rule is missing" in found[0]
    assert "Of 2 primary comparisons" in claim["claim"]
    path.write_bytes(path.read_bytes()[:-50])
    found, _ = built(tmp_path, folder)
    assert [line[:25] for line in found] == ["cpu-toy/digits: failed: d"]
