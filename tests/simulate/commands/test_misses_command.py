"""`python -m simulate misses`: the table, its provenance, and what is refused."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.__main__ import app
from moe_replay.traces.command_line import command
from moe_replay.traces.command_line.files import sha256_of
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def misses(capsys, monkeypatch):
    """Call `simulate misses` in this process; return (exit status, stdout, last line of stderr)."""

    def call(*words):
        words = [*map(str, words)]
        monkeypatch.setattr(sys, "argv", [str(ROOT / "simulate" / "__main__.py"), "misses", *words])
        with pytest.raises(SystemExit) as left:
            command.run(app, "simulate")
        captured = capsys.readouterr()
        return left.value.code or 0, captured.out, captured.err.strip().splitlines()[-1:]

    return call


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A trace of two layers of six experts, two selected per token."""
    spec = SyntheticSpec(layers=2, experts=6, k=2, sequences=6, prompt=(4, 4), decode=(6, 6), batch=3)
    path = tmp_path_factory.mktemp("misses") / "toy.trace.parquet"
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, path)
    return path


def table(path):
    with open(path, newline="") as opened:
        return list(csv.DictReader(opened))


def test_a_table_and_where_it_came_from(misses, path, tmp_path):
    out = tmp_path / "flat.csv"
    words = (path, "--mode", "flat", "--cache", "lru,lfu,belady,none", "--slots", "2,4", "--out", out)
    status, printed, _ = misses(*words)
    assert status == 0
    rows = table(out)
    assert [(row["policy"], row["slots"], row["layer"]) for row in rows] == [
        (policy, slots, layer)
        for policy in ("lru", "lfu", "belady", "none") for slots in "24" for layer in ("all", "0", "1")
    ]  # fmt: skip
    total = {(row["policy"], row["slots"]): int(row["misses"]) for row in rows if row["layer"] == "all"}
    assert total["none", "2"] == 60 * 2 * 2  # every selection of 60 tokens
    assert total["belady", "2"] <= total["lru", "2"] < total["none", "2"]
    for row in rows:
        assert int(row["hits"]) + int(row["misses"]) == int(row["accesses"])
        assert float(row["miss_ratio"]) == pytest.approx(int(row["misses"]) / int(row["accesses"]))
        assert int(row["declined"]) == (int(row["misses"]) if row["policy"] == "none" else 0)
        assert row["transfers"] == row["misses"]
        assert (row["mode"], row["grouping"], row["emptied"]) == ("flat", "selection", "never")
        assert row["known"] == ("hindsight" if row["policy"] == "belady" else "none")
    per_layer = sum(int(row["misses"]) for row in rows[1:3])
    assert per_layer == total["lru", "2"]
    assert f"{total['lru', '2']}" in printed
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["sha256"] == sha256_of(out)
    assert about["inputs"] == {path.name: load_trace(path).digest}
    assert about["provenance"]["command"].startswith("python -m simulate misses .../toy.trace.parquet --mode flat ")
    assert "mode flat: every selection for itself; slots never emptied" in printed
    before = out.read_bytes()
    assert misses(*words)[0] == 0
    assert out.read_bytes() == before


def test_group_mode_with_prefetchers_and_another_trace_for_popularity(misses, path, tmp_path):
    out = tmp_path / "group.csv"
    words = ("--scope", "global", "--cache", "lifo,belady,static", "--prefetch", "none,oracle,popularity")
    assert misses(path, *words, "--slots", "6", "--known", path, "--k", "1", "--out", out)[0] == 0
    rows = {(row["policy"], row["prefetcher"]): row for row in table(out)}
    assert len(rows) == 9
    assert {row["known"] for (policy, prefetcher), row in rows.items() if (policy, prefetcher) != ("lifo", "none")} == {
        "hindsight"  # popularity too: the trace given is the one that is counted
    }
    assert int(rows["lifo", "oracle"]["misses"]) < int(rows["lifo", "none"]["misses"])
    for row in rows.values():
        assert int(row["transfers"]) == int(row["loads"]) + int(row["declined"]) + int(row["prefetches"])
        assert row["policy"] == "static" or int(row["transfers"]) >= int(rows["belady", "none"]["misses"])
        assert (row["mode"], row["grouping"]) == ("group", "pass")
        assert int(row["prefetches"]) == int(row["prefetches_used"]) + int(row["prefetches_unused"])


@pytest.mark.parametrize(
    ("policies", "slots", "said"),
    [
        ("lru,belady,static", "4", "belady keeps what it loads: it is no bound for static; --cache belady-bypass is"),
        ("lru,belady", "2,4", "it is no bound for an engine of up to 2 slots; --cache belady-bypass is"),
        ("lru,belady", "4", ""), ("lru,belady,belady-bypass,none", "2", ""), ("static,none", "2", ""),
    ],
)  # fmt: skip
def test_an_optimum_that_is_no_bound_says_so(misses, path, policies, slots, said):
    status, printed, _ = misses(path, "--cache", policies, "--slots", slots)
    assert status == 0
    assert said in printed
    assert bool(said) == ("no bound" in printed)


def test_every_number_of_slots_and_caches_emptied_per_sequence(misses, path, tmp_path):
    for out, words in ((tmp_path / "kept.csv", ()), (tmp_path / "emptied.csv", ("--emptied", "sequence"))):
        assert misses(path, "--cache", "lru", *words, "--out", out)[0] == 0
    kept, emptied = ([int(row["misses"]) for row in table(tmp_path / f"{name}.csv") if row["layer"] == "all"]
                     for name in ("kept", "emptied"))  # fmt: skip
    assert len(kept) == len(emptied) == 6
    assert kept[-1] == 12 < emptied[-1]  # all experts of both layers, once, and once per sequence


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--slots", "7"), "slots is 7, allowed 1..6, the experts that share them"),
        (("--slots", "0"), "--slots: 0 is not allowed; allowed: numbers >= 1"),
        (
            ("--cache", "lur"),
            "unknown cache policy 'lur'; known: belady, belady-bypass, fifo, importance, ",
        ),
        (("--mode", "flat", "--prefetch", "oracle"), "prefetcher 'oracle' needs groups; allowed in mode 'group' only"),
        (("--mode", "group", "--prefetch", "psychic"), "unknown prefetcher 'psychic'; known: co-activation, none, "),
        (("--mode", "timed"), "unknown mode 'timed'; known: flat, group"),
        (("--scope", "device"), "unknown scope 'device'; known: global, layer"),
        (("--mode", "group", "--group", "batch"), "unknown grouping 'batch'; known: pass, step"),
        (("--k", "3"), "k is 3, allowed 1..2"),
        (("--cache", "importance"), "importance needs norm_TL and scores"),
    ],
)
def test_refusals(misses, path, tmp_path, words, line):
    out = tmp_path / "none.csv"
    status, _, said = misses(path, *words, "--out", out)
    assert status == 2
    assert said[0].startswith(f"simulate: {line}")
    assert not out.exists()


def test_a_name_that_is_no_table_and_a_trace_of_another_model(misses, path, tmp_path):
    assert misses(path, "--out", tmp_path / "x.parquet")[2] == [
        "simulate: --out: 'x.parquet' is not allowed; allowed: a name that ends in .csv"
    ]
    other = tmp_path / "other.trace.parquet"
    spec = SyntheticSpec(layers=2, experts=8, k=2, sequences=2)
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, other)
    status, _, said = misses(path, "--cache", "static", "--known", other, "--out", tmp_path / "x.csv")
    assert status == 2
    assert "2 layers of 8 experts, allowed 2 of 6, as in the trace replayed" in said[0]
