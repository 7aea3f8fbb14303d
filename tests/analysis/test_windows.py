"""Windows hold enough, throughput never exceeds what was offered, and no prompt vanishes without a word."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_replay.analysis.estimates.replications import combined, steady
from moe_replay.analysis.tables.what_if import runs_table
from moe_replay.simulate.config.costs import CostModel
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.sweeps.run_folder import Runs, choices_only
from moe_replay.traces.header import Header, ModelInfo
from moe_replay.traces.runs.run_statistics import run_statistics
from moe_replay.traces.runs.run_steadiness import LEAST_PASSES, LEAST_SEQUENCES
from moe_replay.traces.runs.served_sequences import served_sequences
from moe_replay.traces.selections import Trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

DECODING = SyntheticSpec(layers=2, experts=8, k=2, sequences=200, prompt=(1, 1), decode=(39, 39))


@pytest.fixture(scope="module")
def trace():
    """200 sequences of 40 single tokens."""
    return choices_only(synthetic_trace(DECODING, np.random.default_rng(1)).trace)


def replayed(trace, line_ns=(20_000, 2_000), **fields):
    config = RunConfig(**{"dense": False, **fields})
    return Runs(trace, trace.digest, CostModel(line_ns=line_ns), Path(), {}).simulate(config)


def open_row(trace, seeds=2, line_ns=(20_000, 2_000), **fields):
    runs = [replayed(trace, line_ns, arrivals="poisson", seed=seed, **fields) for seed in range(seeds)]
    return combined([run_statistics(run) for run in runs])


@pytest.mark.parametrize("queue_size", [1, 4, 16, 64])
@pytest.mark.parametrize("sequences", [200, 1500])
@pytest.mark.parametrize("seeds", [1, 2])
def test_no_row_serves_more_than_was_offered(trace, queue_size, sequences, seeds):
    """Ten sequences of 40 passes a second are 400 passes a second, however many B keeps for the end."""
    row = open_row(trace, seeds, queue_size=queue_size, rate_per_s=10.0, sequences=sequences)
    assert row["offered_per_s"] == pytest.approx(400)
    if row["status"] == "ok":
        assert row["values_of"] == "window"
        assert row["throughput_per_s_low"] <= 400
    else:
        assert (row["status"], row["values_of"]) == ("short", "whole run")
        assert row["reason"].startswith(("not in a steady state", "too short for"))
    assert row["throughput_per_s"] < 480


def test_one_lucky_replication_of_many_makes_no_row_short(trace):
    """Some of twenty draws bring more than the rate says: each is within chance, and so is their mean."""
    row = open_row(trace, seeds=20, queue_size=1, rate_per_s=10.0)
    assert row["status"] == "ok"
    assert row["throughput_per_s"] == pytest.approx(400, rel=0.06)


def test_what_gathers_until_arrivals_end_is_no_throughput(trace):
    """B = 16 holds nearly all sequences back until the stall rule forces them at the end: there is no steady state."""
    row = open_row(trace, queue_size=16, rate_per_s=10.0)
    assert row["status"] == "short"
    assert "more arrive than end in the window" in row["reason"]
    assert row["throughput_per_s"] == pytest.approx(400, rel=0.2)
    long = open_row(trace, queue_size=16, rate_per_s=10.0, sequences=2000)
    assert long["status"] == "ok"
    assert long["throughput_per_s"] == pytest.approx(400, rel=0.1)


@pytest.mark.parametrize("over", [1.15, 1.5, 5.0])
@pytest.mark.parametrize("scheduler", [{"queue_size": 1}, {"scheduler": "lockstep", "max_step": 1}])
def test_overload_is_named(trace, over, scheduler):
    """A pass takes at least 2 layers x 2 experts x 22 us = 88 us: 284 sequences of 40 passes a second are the most."""
    row = open_row(trace, rate_per_s=over * 1e9 / (88_000 * 40), **scheduler)
    assert row["status"] == "unstable"
    assert "backlog grows" in row["reason"] or "stay in flight" in row["reason"] or "of the capacity" in row["reason"]
    assert row["throughput_per_s"] == pytest.approx(1e9 / 88_000, rel=0.05)
    assert np.isnan([row["latency_p50_ms"], row["request_mean_ms"]]).all()


@pytest.mark.parametrize("sequences", [30, 60, 145])
@pytest.mark.parametrize("over", [1.3, 3.0])
@pytest.mark.parametrize("scheduler", [{"scheduler": "lockstep", "max_step": 5}, {"scheduler": "lockstep"}])
def test_an_overload_is_not_ok_however_few_sequences_show_it(trace, sequences, over, scheduler):
    """What all sequences at once are served with is more than any other arrivals are."""
    most = run_statistics(replayed(trace, arrivals="all", sequences=sequences, **scheduler)).whole["requests_per_s"]
    row = open_row(trace, rate_per_s=over * most, sequences=sequences, **scheduler)
    assert row["status"] in ("short", "unstable")
    assert (row["status"] == "unstable") or over < 2 or sequences < 60


def test_recorded_arrivals_are_held_to_what_they_offer(trace):
    """One sequence every 100 ms, as recorded: 400 passes a second, and no more."""
    timed = replace(trace, arrival_ns_S=np.arange(200, dtype=np.int64) * 100_000_000)
    values = {size: run_statistics(replayed(timed, arrivals="recorded", queue_size=size)) for size in (1, 16)}
    for found in values.values():
        assert found.values["offered_per_s"] == pytest.approx(400)
    assert values[1].status == "ok"
    assert values[1].values["throughput_per_s"] == pytest.approx(400, rel=0.01)
    assert values[16].status == "short"
    assert values[16].values["throughput_per_s"] == pytest.approx(400, rel=0.01)


def one_request(prompt=512, decoded=60):
    """One sequence: a prompt in one pass, then single tokens; one layer, two of eight experts each, all alike."""
    tokens = prompt + decoded
    header = Header(
        model=ModelInfo(name="toy", experts=8, used_k=2, layer_ids=(0, 1)), gate_rule="none", score_kind=None,
        ranked=True, device="none", data={"name": None, "digest": None, "note": None},
    )  # fmt: skip
    step = np.maximum(np.arange(tokens) - prompt + 1, 0).astype(np.int32)
    return Trace(
        header=header, experts_TLK=np.tile(np.array([0, 1], np.int16), (tokens, 2, 1)),
        sequence_T=np.zeros(tokens, np.int32), position_T=np.arange(tokens, dtype=np.int32), step_T=step,
        phase_T=(step > 0).astype(np.int8),
    )  # fmt: skip


def test_the_prompt_of_one_request_shows(tmp_path):
    """Two layers of two experts: 4 (1 ms + 0.1 ms n) a pass, so 208.8 ms for 512 tokens and 4.4 ms for each of 60."""
    run = replayed(
        one_request(), (1_000_000, 100_000), scheduler="lockstep", arrivals="closed", in_flight=1
    )  # fmt: skip
    found = run_statistics(run)
    assert (found.status, found.values_of) == ("short", "whole run")
    assert "whose longest pass takes 208.8 ms" in found.reason
    assert found.values["request_mean_ms"] == pytest.approx(208.8 + 60 * 4.4)
    assert found.values["latency_mean_ms"] == pytest.approx((208.8 + 60 * 4.4) / 61)
    assert found.values["latency_p50_ms"] == pytest.approx(4.4)
    assert found.values["throughput_per_s"] == pytest.approx(61 / 0.4728)
    assert found.values["tokens_per_s"] == pytest.approx(572 / 0.4728)
    assert found.values["requests_per_s"] == pytest.approx(1 / 0.4728)
    run.save(tmp_path, "one")
    table = runs_table(tmp_path).whole
    assert table["values_of"].tolist() == ["whole run"]
    assert table["latency_mean_ms"].tolist() == pytest.approx([(208.8 + 60 * 4.4) / 61])


def test_prompts_count_in_a_window_of_enough_sequences(trace):
    """Thirty requests one after another: the window holds whole requests, their prompts among the passes."""
    parts = one_request(prompt=50, decoded=4)
    run = replayed(parts, (1_000, 1_000), scheduler="lockstep", arrivals="closed", in_flight=1, sequences=30)
    found = run_statistics(run)
    assert (found.status, found.values_of) == ("ok", "window")
    prompt, token = 4 * 51 * 1e-3, 4 * 2 * 1e-3
    assert found.values["latency_mean_ms"] == pytest.approx((prompt + 4 * token) / 5, rel=1e-6)
    assert found.values["latency_p99_ms"] == pytest.approx(prompt)
    assert found.values["request_p50_ms"] == pytest.approx(prompt + 4 * token)


@pytest.mark.parametrize("arrivals", [{"arrivals": "closed", "in_flight": 1}, {"arrivals": "closed", "in_flight": 4}])
@pytest.mark.parametrize("sequences", range(1, 60, 6))
def test_a_window_that_holds_too_little_is_short(trace, arrivals, sequences):
    found = run_statistics(replayed(trace, sequences=sequences, **arrivals))
    if found.status == "ok":
        assert found.values["passes_measured"] >= LEAST_PASSES
        assert found.values["requests_per_s"] * found.values["window_s"] >= LEAST_SEQUENCES - 1e-9
    else:
        assert found.values_of == "whole run"
        assert found.values["passes_measured"] == 40 * sequences
        assert "takes" in found.reason
    assert found.status == "short" if sequences < 10 else found.status == "ok" or sequences < 25


def test_sequences_served_twice_count_twice(trace):
    run = replayed(one_request(3, 2), arrivals="closed", in_flight=1, sequences=4)
    served = served_sequences(run.passes)
    assert len(served) == 4
    assert served.passes.tolist() == [3] * 4
    assert served.tokens.tolist() == [5] * 4
    assert (served.end_ns[:-1] == served.arrival_ns[1:]).all()


def test_a_run_that_takes_no_time_has_no_rate(trace):
    found = run_statistics(replayed(trace, (0, 0), arrivals="all", sequences=2))
    assert (found.status, found.reason) == ("short", "the run takes no time, so it has no rates")
    assert np.isnan(found.values["throughput_per_s"])


def test_one_short_replication_makes_a_row_of_whole_runs(trace):
    """The others had luck: a mean over a window and a whole run would be of neither."""
    steady_run = run_statistics(replayed(trace, arrivals="closed", in_flight=1, sequences=60))
    short_run = run_statistics(replayed(trace, arrivals="closed", in_flight=1, sequences=3))
    row = combined([steady_run, short_run])
    assert (row["status"], row["values_of"]) == ("short", "whole run")
    for name, value in steady_run.whole.items():
        assert row[name] == pytest.approx((value + short_run.whole[name]) / 2), name
    assert np.isnan(row["utilisation"])
    assert np.isnan(steady(row)["latency_p50_ms"])
    assert steady(row)["throughput_per_s"] == row["throughput_per_s"]
