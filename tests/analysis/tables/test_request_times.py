"""Times of requests by arrival rate: means over seeds, their intervals, and the highest rate within a target."""

import numpy as np
import pytest
from scipy import stats

from moe_replay.analysis.tables.request_times import Targets, highest_rate, request_times
from moe_replay.traces.errors import InputError


def requests(rate, seed, *of_each):
    """Rows of requests that arrive at 0; `of_each` = (first token ms, end ms, tokens)."""
    return [
        {"rate_per_s": str(rate), "speed": "", "seed": str(seed), "request": number, "arrival_ns": 0,
         "output_tokens": tokens, "first_token_ns": round(first * 1e6), "end_ns": round(end * 1e6)}
        for number, (first, end, tokens) in enumerate(of_each)
    ]  # fmt: skip


def test_means_over_seeds_and_their_t_intervals():
    """Seeds have mean TTFT 15 and 25 ms; TPOT (30 - 10) / 4 = 5 of one, (60 - 20) / 4 = 10 of the other."""
    rows = requests(2, 0, (10, 30, 5), (20, 20, 1)) + requests(2, 1, (20, 60, 5), (30, 30, 1))
    (row,) = request_times(rows, Targets()).to_dict("records")
    assert (row["ttft_mean_ms"], row["tpot_mean_ms"], row["replications"], row["requests"]) == (20, 7.5, 2, 2)
    half = stats.t.ppf(0.975, 1) * np.std([15, 25], ddof=1) / np.sqrt(2)
    assert row["ttft_mean_ms_high"] == pytest.approx(20 + half)
    assert row["requests_per_s"] == pytest.approx(np.mean([2 / 0.030, 2 / 0.060]))
    assert row["output_tokens_per_s"] == pytest.approx(np.mean([6 / 0.030, 6 / 0.060]))


def test_the_highest_rate_keeps_its_targets_as_all_lower_ones_do():
    rows = []
    for rate, first, end in ((10, 5, 9), (20, 6, 10), (30, 50, 54), (40, 7, 11)):
        rows += requests(rate, 0, (first, end, 3)) + requests(rate, 1, (first, end, 3))
    table = request_times(rows, Targets(ttft_ns=10e6, tpot_ns=2e6))
    assert table["within"].tolist() == ["yes", "yes", "no", "yes"]
    assert set(table["status"]) == {"short"}
    assert highest_rate(table, Targets(10e6, 2e6)).endswith("TPOT p95 <= 2 ms: up to 20 requests/s")
    slow = Targets(tpot_ns=1.9e6)
    assert highest_rate(request_times(rows, slow), slow).endswith("kept by no rate that was tried")


def test_a_mean_within_and_an_interval_beyond_the_target_are_told_apart():
    rows = requests(10, 0, (5, 9, 3)) + requests(10, 1, (7, 9, 3))
    assert request_times(rows, Targets(ttft_ns=6.5e6))["within"].tolist() == ["by mean"]
    alone = request_times(requests(10, 0, (5, 9, 3)), Targets(ttft_ns=6.5e6))
    assert alone["within"].tolist() == ["by mean"]  # one seed has no interval


def test_requests_of_one_token_have_no_further_one():
    table = request_times(requests("", "", (5, 5, 1)), Targets(tpot_ns=1.0))
    assert np.isnan(table["tpot_mean_ms"][0])
    assert table["within"].tolist() == ["by mean"]


def test_seeds_that_served_different_numbers_are_refused():
    with pytest.raises(InputError, match="rate 2: its seeds have 1 to 2 requests"):
        request_times(requests(2, 0, (1, 2, 2)) + requests(2, 1, (1, 2, 2), (1, 2, 2)), Targets())


def test_a_rate_that_cannot_be_served_keeps_no_target():
    """Requests come every 10 ms. Each is served in 5 ms; or the n-th waits for n times 2 ms, far below the target."""
    steady, growing = [], []
    for seed in range(2):
        for number in range(100):
            row = {"request": number, "seed": str(seed), "speed": "", "arrival_ns": number * 10**7, "output_tokens": 2}
            steady.append(row | {"rate_per_s": "100", "first_token_ns": row["arrival_ns"] + 5 * 10**6 + number % 7})
            growing.append(row | {"rate_per_s": "200", "first_token_ns": row["arrival_ns"] + 2 * 10**6 * number})
    rows = [row | {"end_ns": row["first_token_ns"] + 10**6} for row in steady + growing]
    targets = Targets(ttft_ns=1e9)
    table = request_times(rows, targets)
    assert table["status"].tolist() == ["ok", "unstable"]
    assert table["within"].tolist() == ["yes", "no"]
    assert "up to 100 requests/s" in highest_rate(table, targets)
    decoding = [row | {"first_token_ns": row["arrival_ns"] + 1} for row in rows]  # only the later tokens are late
    assert request_times(decoding, targets)["status"].tolist() == ["ok", "unstable"]
