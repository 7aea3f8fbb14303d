"""The accuracy tables and their sentence, on tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest

from moe_replay.analysis.tables.accuracy_vs_k import rows as accuracy
from moe_replay.analysis.tables.accuracy_vs_k.claim import accuracy_claim
from moe_replay.traces.errors import InputError


def quality(shape, seeds=3, trained=range(1, 9), evaluated_at=4, noise=0.0005, seed=0):
    rng = np.random.default_rng(seed)
    pairs = [(k, k) for k in trained] + [(evaluated_at, k) for k in range(1, 17) if k != evaluated_at]
    shift = rng.normal(0, 0.005, seeds)
    rows = [
        {
            "data": "toy",
            "trained_k": a,
            "evaluated_k": b,
            "seed": s,
            "accuracy": 0.5 + shape(b) + shift[s] + rng.normal(0, noise),
        }
        for a, b in pairs
        for s in range(seeds)
    ]
    return pd.DataFrame(rows)


def fits_of(table):
    return pd.DataFrame(accuracy.fit_rows("cpu/toy", table))


def test_both_views_are_found():
    rows = pd.DataFrame(accuracy.accuracy_rows("cpu/toy", quality(lambda k: 0.005 * k)))
    counts = rows.groupby("view")["k"].count()
    assert counts[accuracy.TRAINED] == 8
    assert counts[accuracy.EVALUATED] == 16
    assert (rows["seeds"] == 3).all()
    assert rows["accuracy_percent"].between(50, 60).all()


def test_a_line_is_called_a_line():
    fits = fits_of(quality(lambda k: 0.005 * k))
    assert fits["slope"].to_numpy() == pytest.approx([0.5, 0.5], abs=0.02)
    assert (fits["share_by_line"] > 0.99).all()
    claim = accuracy_claim(fits)["claim"]
    assert claim.startswith("Is growth in k linear? Yes")
    assert "no departure from a straight line" in claim


def test_a_plateau_is_called_a_bend():
    fits = fits_of(quality(lambda k: 0.02 * min(k, 3)))
    assert fits["enough_k"].tolist() == [3, 3]
    claim = accuracy_claim(fits)["claim"]
    assert claim.startswith("Is growth in k linear? No")
    assert "growth slows down" in claim
    assert "k=3 is within 0.3 points of the best" in claim


def test_gain_is_paired_over_seeds():
    fits = fits_of(quality(lambda k: 0.02 * min(k, 3), noise=1e-6))
    assert fits["gain"].to_numpy() == pytest.approx([4, 4], abs=0.01)
    assert (fits["gain_high"] - fits["gain_low"] < 0.01).all()  # the seeds' shifts of 0.5 points cancel


def test_no_growth_is_called_no_growth():
    fits = fits_of(quality(lambda k: 0.0, seed=4))
    claim = accuracy_claim(fits)["claim"]
    assert "neither growth nor a departure from a flat line" in claim
    assert claim.startswith("Is growth in k linear? No")


def test_a_missing_seed_makes_its_row_incomplete():
    table = quality(lambda k: 0.005 * k)
    table = table[~((table["trained_k"] == 7) & (table["seed"] == 1))]
    rows = pd.DataFrame(accuracy.accuracy_rows("cpu/toy", table))
    bad = rows[rows["status"] != "ok"]
    assert bad[["view", "k", "reason"]].to_numpy().tolist() == [[accuracy.TRAINED, 7, "1 seeds are missing"]]
    assert (fits_of(table)["status"] == "ok").all()


def test_one_seed_gives_no_verdict():
    claim = accuracy_claim(fits_of(quality(lambda k: 0.005 * k, seeds=1)))
    assert claim["numbers"] == {}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("data,trained_k,evaluated_k,seed\ntoy,1,1,0\n", "column accuracy is missing"),
        ("data,trained_k,evaluated_k,seed,accuracy\ntoy,1,1,0,51.2\n", "row 0: accuracy is 51.2, allowed 0..1"),
        ("data,trained_k,evaluated_k,seed,accuracy\ntoy,1,1,0,\n", "allowed 0..1"),
        ("", "not a CSV table"),
    ],
)
def test_bad_quality_tables_are_refused(tmp_path, content, words):
    path = tmp_path / "quality.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        accuracy.read_quality(path)
