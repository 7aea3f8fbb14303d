"""`simulate end-to-end`: its table, its files, and what it refuses in one line."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moe_replay.simulate.__main__ import app
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.file.trace_file import load_trace, save_trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

PLAIN = ("toy.trace.parquet", "--affine", "1000,10", "--token-bytes", "64", "--devices", "4")


@pytest.fixture
def timed(tmp_path, monkeypatch, capsys):
    """Return a function (words) -> (status, printed, errors) of the command, in a folder with a trace."""
    monkeypatch.chdir(tmp_path)
    spec = SyntheticSpec(layers=2, experts=8, k=2, sequences=40, prompt=(6, 10), decode=(4, 8), scores=False)
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, "toy.trace.parquet")

    def call(*words):
        monkeypatch.setattr("sys.argv", ["simulate/__main__.py", "end-to-end", *words])
        status = status_of(app, "simulate", ["end-to-end", *words])
        return status, *capsys.readouterr()

    return call


def test_every_combination_has_a_row_and_the_table_fits(timed):
    lists = (
        "--systems", "contiguous,eplb,lpt-adaptive", "--redundant", "0,4", "--links", "h100-ndr,pcie4-ethernet100",
        "--nodes", "1,2", "--micro-batches", "1,2", "--step-tokens", "64",
    )  # fmt: skip
    status, printed, _ = timed(*PLAIN, *lists, "--out", "steps.csv")
    assert status == 0
    with open("steps.csv") as opened:
        rows = list(csv.DictReader(opened))
    assert len(rows) == 4 * 2 * 2 * 2
    assert {(row["system"], row["redundant"]) for row in rows} == {
        ("contiguous", "0"), ("eplb", "0"), ("eplb", "4"), ("lpt-adaptive", "0"),
    }  # fmt: skip
    assert {row["known"] for row in rows} == {"none", "held-out"}
    assert max(map(len, printed.splitlines())) <= 122
    assert "…" not in printed
    about = json.loads(Path("steps.json").read_text())
    assert about["inputs"] == {
        "toy.trace.parquet": load_trace("toy.trace.parquet").digest, "costs": "affine 1000 10 ns",
    }  # fmt: skip
    assert about["said"] in printed


def test_settings_that_do_not_differ_are_not_printed(timed):
    _, printed, _ = timed(*PLAIN, "--step-tokens", "64")
    head = printed.partition("─")[0]
    assert "links" not in head
    assert "step" in head


def test_a_step_has_at_most_half_of_the_tokens_of_its_phase(timed):
    trace = load_trace("toy.trace.parquet")
    for phase, number in (("prefill", 0), ("decode", 1)):
        _, printed, _ = timed(*PLAIN, "--phase", phase, "--step-tokens", "1e6")
        half = int((trace.phase_T == number).sum()) // 2
        assert f"1 steps of {half:,} tokens, planned from the 1 before" in printed


def test_bytes_of_tokens_and_experts_come_from_the_costs_layer(timed):
    words = ("toy.trace.parquet", "--costs", "nvidia-h200/olmoe-alone", "--devices", "4", "--step-tokens", "64")
    assert timed(*words, "--systems", "eplb-adaptive", "--redundant", "4", "--out", "steps.csv")[0] == 0
    with open("steps.csv") as opened:
        (row,) = csv.DictReader(opened)
    assert (row["dispatch_bytes"], row["step_costs"]) == ("4096", "nvidia-h200/olmoe")
    assert float(row["copy_ms"]) > 1e3 * 12.5e6 / 450e9  # at least one expert of 12.6 MB over NVLink


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--systems", "lpt,best"), "unknown planner 'best'"),
        (("--systems", "-adaptive"), "unknown planner ''"),
        (("--nodes", "3"), "4 devices in 3 nodes, allowed: equally many in each"),
        (("--links", "rope"), "rope: no machine of that name"),
        (("--phase", "late"), "phase"),
        (("--judged", "99"), "--judged is 99, allowed 1.."),
        (("--out", "steps.txt"), "allowed: a name that ends in .csv"),
        (("--split", "even"), "unknown split 'even'"),
        (("--systems", "eplb", "--redundant", "99"), "99 redundant experts on 4 devices, allowed at most 24"),
        (("--costs", "nvidia-h200/olmoe-alone"), "exactly one of them"),
    ],
)
def test_what_cannot_be_is_one_line(timed, words, said):
    status, _, errors = timed(*PLAIN, *words)
    assert status == 2
    assert said in errors
    assert len([line for line in errors.splitlines() if line.strip()]) == 1


def test_a_trace_that_does_not_say_how_large_a_token_is_needs_an_option(timed):
    trace = load_trace("toy.trace.parquet")
    model = replace(trace.header.model, d_model=None)
    save_trace(replace(trace, header=replace(trace.header, model=model)), "small.trace.parquet")
    status, _, errors = timed("small.trace.parquet", "--affine", "1,1", "--devices", "4")
    assert status == 2
    assert "nothing says how many bytes a token has" in errors
    assert "--token-bytes N" in errors
