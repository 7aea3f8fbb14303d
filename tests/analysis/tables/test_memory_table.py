"""What `simulate memory` and `analysis memory` say: lost time split into causes that add up, and what is refused."""

import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moe_replay.analysis.__main__ import app as analysis_app
from moe_replay.analysis.printing import WIDEST, width
from moe_replay.analysis.tables.lost_mass import Relation, read_relation
from moe_replay.analysis.tables.memory_causes import (
    memory_table,
    remarks,
    settings_said,
    shown_memory,
    with_measured_loss,
)
from moe_replay.simulate.__main__ import app as simulate_app
from moe_replay.simulate.sweeps.regret import CAUSES
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.files import write_rows
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

ROOT = Path(__file__).resolve().parents[3]
MILLISECONDS = [f"{cause}_ms" for cause in CAUSES]
COSTS = ("--affine", "2000,100", "--bandwidth", "1", "--latency", "1us", "--expert-bytes", "4000")


@pytest.fixture
def call(capsys, monkeypatch):
    """Call a stage's command in this process; return (exit status, stdout, lines of stderr)."""

    def called(stage, app, *words):
        monkeypatch.setattr(sys, "argv", [str(ROOT / stage / "__main__.py"), *map(str, words)])
        with pytest.raises(SystemExit) as left:
            command.run(app, stage)
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err.strip().splitlines()

    return called


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Six sequences; two layers of five experts, two selected per token, with scores."""
    spec = SyntheticSpec(layers=2, experts=5, k=2, sequences=6, prompt=(3, 5), decode=(4, 6))
    path = tmp_path_factory.mktemp("memory") / "toy.trace.parquet"
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, path)
    return path


@pytest.mark.parametrize("devices", [1, 2])  # two share five experts unevenly
def test_causes_add_up_to_the_time_lost(call, path, tmp_path, devices):
    words = ("--cache", "lru,static,belady", "--slots", "1,2", "--miss", "load,block", "--prefetch", "none,oracle")
    folder = tmp_path / "runs"
    status, _, said = call(
        "simulate", simulate_app, "memory", path, *COSTS, *words, "--devices", devices, "--jobs", 1, "--out", folder
    )
    assert status == 0, said
    whole = memory_table(folder)
    table = whole[whole["world"] == "run"]
    assert len(table) == 3 * 2 * 2 * 2
    assert whole["world"].value_counts().to_dict() == {"run": 24, "bound": 4, "resident": 1}
    assert_held_against(whole, table)
    assert table[MILLISECONDS].notna().all(axis=None)
    np.testing.assert_allclose(table[MILLISECONDS].sum(axis=1), table["lost_ms"], atol=1e-9)
    assert (table["lost_ms"] > 0).all()
    assert (table["policy_ms"] >= 0).all()
    plain = table["prefetch"] == "none"
    assert (table.loc[plain, ["prefetching_ms", "late_prefetch_ms"]] == 0).all(axis=None)
    if devices == 1:
        ahead, none = (
            table[each].set_index(["cache", "slots", "miss"])["time_ms"].sort_index() for each in (~plain, plain)
        )
        assert (ahead < none).mean() > 0.5
    status, printed, _ = call("analysis", analysis_app, "memory", folder)
    assert status == 0
    assert "…" not in printed
    assert "compulsory" in printed
    assert all(width(text) <= WIDEST for text in shown_memory(whole))


def test_every_loop_and_link_is_held_against_its_own(call, path, tmp_path):
    """Two queue sizes, two loops, two links: the time lost is that beside the residents of the same loop."""
    words = ("--scheduler", "queues", "--queue-size", "1,2", "--in-flight", "1,3", "--bandwidth", "0.1GB/s,1GB/s")
    folder = tmp_path / "runs"
    status, _, said = call(
        "simulate", simulate_app, "memory", path, *COSTS, *words, "--cache", "lru", "--slots", "2", "--jobs", 1,
        "--out", folder,
    )  # fmt: skip
    assert status == 0, said
    whole = memory_table(folder)
    assert whole["world"].value_counts().to_dict() == {"run": 8, "bound": 8, "resident": 4}
    for _, loop in whole.groupby(["queue_size", "in_flight"]):
        (resident,) = loop.loc[loop["world"] == "resident", "ms_per_pass"]
        np.testing.assert_allclose(loop["slowdown"], loop["ms_per_pass"] / resident)
        table = loop[loop["world"] == "run"].sort_values("link_bytes_per_s")
        np.testing.assert_allclose(table[MILLISECONDS].sum(axis=1), table["lost_ms"], atol=1e-9)
        np.testing.assert_allclose(table["lost_ms"], table["ms_per_pass"] - resident)
        slow, quick = table["lost_ms"]
        assert slow > quick > 0


def assert_held_against(whole, table):
    """All experts resident come first, a bound comes before its runs and is slower than none of its slots and miss."""
    resident = whole.iloc[0]
    assert (resident["cache"], resident["slowdown"], resident["lost_ms"]) == ("resident", 1, 0)
    np.testing.assert_allclose(whole["slowdown"], whole["ms_per_pass"] / resident["ms_per_pass"])
    np.testing.assert_allclose(
        whole["tokens_per_s"] / whole["requests_per_s"], whole["tokens_per_s"][0] / whole["requests_per_s"][0]
    )
    assert (whole["lost_in"] == "ms/pass").all()
    bounds = whole[whole["world"] == "bound"]
    assert set(bounds["cache"]) == {"optimum"}
    for bound in bounds.to_dict("records"):
        alone = (table["slots"] == bound["slots"]) & (table["miss"] == bound["miss"]) & (table["prefetch"] == "none")
        waited = table.loc[alone, "lost_ms"] - table.loc[alone, "bandwidth_ms"] - table.loc[alone, "policy_ms"]
        assert (waited <= bound["lost_ms"] + 1e-9).all()


def test_lost_mass_stands_beside_what_it_cost_where_it_was_measured(call, path, tmp_path):
    words = ("--cache", "static", "--slots", "3", "--miss", "redirect,skip", "--no-explain", "--jobs", "1")
    assert call("simulate", simulate_app, "memory", path, *COSTS, *words, "--out", tmp_path / "m")[0] == 0
    status, printed, _ = call("analysis", analysis_app, "memory", tmp_path / "m")
    assert status == 0
    assert "not validated; --quality TABLE" in printed
    write_rows(tmp_path / "q.csv", measured([("skip", 0.2, 0.1), ("skip", 0.4, 0.3), ("skip", 0.9, 0.8)]))
    status, printed, _ = call("analysis", analysis_app, "memory", tmp_path / "m", "--quality", tmp_path / "q.csv")
    assert status == 0
    assert "measured loss (bits_per_byte)" in printed
    table = with_measured_loss(memory_table(tmp_path / "m"), read_relation(tmp_path / "q.csv"))
    loss = table.set_index("miss")["measured_loss"]
    assert np.isnan(loss["redirect"])
    assert 0 < loss["skip"] < 0.8


def measured(points):
    shared = {"measure": "bits_per_byte", "units": 40, "quality": 2.0, "quality_error": 0.1, "loss_error": 0.02}
    return [
        {"method": "random", "miss": miss, "slots": 4, "period": None, "seed": 0, "lost_mass": mass, "loss": loss,
         **shared} for miss, mass, loss in points
    ]  # fmt: skip


def test_the_relation_never_falls_and_is_not_extended(tmp_path):
    """Redirect: 0 at 0, then 0.4, 0.2 (taken together: 0.3 each) and 0.9; skip has too few points."""
    points = [("redirect", 0.2, 0.4), ("redirect", 0.3, 0.2), ("redirect", 0.5, 0.9), ("skip", 0.5, 0.9)]
    write_rows(tmp_path / "q.csv", measured(points))
    relation = read_relation(tmp_path / "q.csv")
    assert relation.loss("redirect", 0.1) == pytest.approx(0.15)
    assert relation.loss("redirect", 0.25) == pytest.approx(0.3)
    assert relation.loss("redirect", 0.4) == pytest.approx(0.6)
    assert np.isnan([relation.loss("redirect", 0.51), relation.loss("skip", 0.5)]).all()
    assert relation.spread == pytest.approx(0.1)
    write_rows(tmp_path / "few.csv", measured(points[2:]))
    with pytest.raises(InputError, match="has fewer than 3 rows of redirect or skip"):
        read_relation(tmp_path / "few.csv")


def test_printed_columns_are_those_that_differ_or_count_something():
    rows = [{"world": "run", "scheduler": "lockstep", "cache": "lru", "slots": each, "scope": "layer", "miss": "load",
             "prefetch": "none", "period": None, "known": "none", "replications": 1, "values_of": "whole run",
             "lost_in": "ms/pass", "hit_ratio": 0.5, "delayed_ratio": 0.0, "transfers_per_pass": 1.0,
             "ms_per_pass": 2.0, "sojourn_mean_ms": 3.0, "time_ms": 2.0, "lost_ms": 1.0,
             **dict.fromkeys(MILLISECONDS, 0.0), "capacity_ms": 1.0, "lost_mass": np.nan}
            for each in (1, 2)]  # fmt: skip
    table = pd.DataFrame(rows)
    assert list(shown_memory(table)[0]) == [
        "world", "cache", "C", "miss", "known", "hit ratio", "transfers/pass", "ms/pass", "lost", "capacity",
    ]  # fmt: skip
    assert "latency ms" in shown_memory(table.assign(lost_in="latency ms"))[0]
    assert settings_said(table) == "the same wherever it applies: scheduler lockstep, scope layer, prefetch none"
    masked = table.assign(miss="skip")
    assert len(remarks(table)) == 1
    assert re.search("not validated; --quality", remarks(masked)[1])
    assert "lie 0.1 off" in remarks(masked, Relation({}, "accuracy", 0.1))[2]


def test_rows_of_other_links_and_schedules_never_read_alike(call, path, tmp_path):
    """The same cache over two links and with two rates: a row each, told apart by what differs."""
    words = ("--affine", "2000,100", "--latency", "1us", "--expert-bytes", "4000", "--slots", "2", "--cache", "lru")
    for bandwidth in ("1", "2"):
        for rate in ("9.5", "100"):
            status, _, said = call("simulate", simulate_app, "memory", path, *words, "--bandwidth", bandwidth,
                                   "--arrivals", "poisson", "--rate", rate, "--replications", 2, "--no-explain",
                                   "--jobs", 1, "--out", tmp_path / "m")  # fmt: skip
            assert status == 0, said
    table = memory_table(tmp_path / "m")
    runs = table[table["world"] == "run"]
    assert sorted(zip(runs["rate_per_s"], runs["link_bytes_per_s"], strict=True)) == [
        (9.5, 1e9), (9.5, 2e9), (100.0, 1e9), (100.0, 2e9),
    ]  # fmt: skip
    assert (runs["replications"] == 2).all()
    assert (table["lost_in"] == "latency ms").all()
    shown = shown_memory(table)[0]
    assert {"rate_per_s", "link_bytes_per_s", "latency ms"} <= set(shown)
    assert len(shown.drop_duplicates()) == len(shown)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--slots", "6"), "slots is 6, allowed 1..5, the experts that share them"),
        (("--slots", "2,11", "--scope", "global"), "slots is 11, allowed 1..10, the experts that share them"),
        (("--slots", "4", "--devices", "2"), "slots is 4, allowed 1..3, the experts that share them"),
        (("--devices", "6"), "devices is 6, allowed: at most one for each of the 5 experts"),
        (("--slots", "0"), "--slots: 0 is not allowed; allowed: numbers >= 1"),
        (("--cache", "lur"), "unknown cache policy 'lur'; known: belady, belady-bypass, "),
        (("--miss", "wait"), "unknown miss handling 'wait'; known: block, host, load, redirect, skip"),
        (("--prefetch", "psychic"), "unknown prefetcher 'psychic'; known: co-activation, none, "),
        (("--cache", "belady", "--miss", "skip"), "no combination of cache, miss and period means anything"),
        (("--cache", "importance"), "importance needs norm_TL and scores"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_before_anything_runs(call, path, tmp_path, words, line):
    status, _, said = call("simulate", simulate_app, "memory", path, *COSTS, *words, "--out", tmp_path / "none")
    assert status == 2
    assert len(said) == 1
    assert said[0].startswith(f"simulate: {line}")
    assert not (tmp_path / "none").exists()


def test_a_folder_without_expert_slots_is_refused(call, path, tmp_path):
    words = ("run", path, "--affine", "20,5", "--queue-size", "1", "--arrivals", "closed", "--in-flight", "1")
    assert call("simulate", simulate_app, *words, "--jobs", "1", "--out", tmp_path / "runs")[0] == 0
    status, _, said = call("analysis", analysis_app, "memory", tmp_path / "runs")
    assert (status, len(said)) == (2, 1)
    assert "no run with expert slots" in said[0]
