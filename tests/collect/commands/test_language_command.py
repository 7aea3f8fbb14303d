"""The language model's commands, from text files to traces, and what they refuse."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import moe_replay.collect.commands.classifier_commands
import moe_replay.collect.commands.execution_commands
import moe_replay.collect.commands.language_commands  # noqa: F401 - all three register their commands
from moe_replay.collect.commands.app import app
from moe_replay.traces.file.trace_file import load_trace
from moe_replay.traces.runs.run_records import load_run, run_names

SIZES = [
    "--layers",
    "2",
    "--experts",
    "4",
    "--k",
    "2",
    "--width",
    "8",
    "--hidden",
    "8",
    "--heads",
    "2",
    "--window",
    "32",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Texts of two domains, and a model trained on them for three steps."""
    path = tmp_path_factory.mktemp("language")
    for domain in ("docs", "novels"):
        (path / domain).mkdir()
        for number in range(30):
            (path / domain / f"{number}.txt").write_text(f"Chapter {number} of {domain}. " * 6)
    assert run(path, "language", "--steps", "3", *SIZES, "--out", path / "model.pt").exit_code == 0
    return path


def run(path, *words):
    options = ["--domains", "docs,novels", "--data-dir", str(path)]
    return CliRunner().invoke(app, [str(words[0]), *options, *map(str, words[1:])])


def test_quality_stands_beside_the_n_grams(folder):
    done = run(
        folder, "language-quality", "--checkpoint", folder / "model.pt", "--segments", 5, "--out", folder / "q.csv"
    )
    assert done.exit_code == 0, done.output
    table = pd.read_csv(folder / "q.csv")
    assert len(table) == 2 * 3
    np.testing.assert_allclose(table.groupby("domain")["lead"].first(), 0)
    assert (table["bits_per_byte"] > 0).all()
    about = json.loads((folder / "q.json").read_text())
    assert about["training"]["steps"] == 3
    assert set(about["data"]["digests"]) == {"docs.train", "docs.held_out", "novels.train", "novels.held_out"}


@pytest.mark.parametrize("phase", ["prefill", "stepwise", "decode"])
def test_traces_know_domain_position_and_step(folder, phase):
    out = folder / f"{phase}.trace.parquet"
    sizes = ["--windows", 2, "--requests", 6, "--prompt", "3-8", "--decode", "4-9", "--in-flight", 2, "--candidates", 3]
    done = run(folder, "language-route", "--checkpoint", folder / "model.pt", "--phase", phase, *sizes, "--out", out)
    assert done.exit_code == 0, done.output
    trace = load_trace(out)
    assert (trace.L, trace.E, trace.K) == (2, 4, 3)
    assert set(trace.domain_S) == {"docs", "novels"}
    assert set(trace.phase_T) == {"prefill": {0}, "stepwise": {1}, "decode": {0, 1}}[phase]
    assert phase != "stepwise" or len(set(trace.step_T)) == trace.T
    assert trace.header.notes["text"]["digests"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--phase", "both"], "unknown phase 'both'; known: decode, prefill, stepwise"),
        (["--candidates", "1"], "--candidates 1: allowed 2..4"),
        (["--prompt", "few"], "--prompt is 'few', allowed a number"),
        (["--prompt", "30", "--decode", "9"], "allowed together up to the window, 32"),
        (["--checkpoint", "absent.pt"], "absent.pt: no such checkpoint"),
    ],
)
def test_bad_options_are_refused(folder, words, message):
    given = {"--checkpoint": folder / "model.pt", **dict(zip(words[::2], words[1::2], strict=True))}
    done = run(folder, "language-route", *[each for pair in given.items() for each in pair], "--out", folder / "x")
    assert message in str(done.exception)


def test_an_execution_with_slots_learns_on_one_half_and_serves_the_other(folder):
    """By default; a trace that is given, or hindsight by name, lets it serve the whole. The headers say which."""
    trace, costs = folder / "learned.trace.parquet", folder / "load.parquet"
    model = ["--checkpoint", folder / "model.pt"]
    done = run(
        folder, "language-route", *model, "--phase", "stepwise", "--windows", 2, "--in-flight", 2, "--out", trace
    )
    assert done.exit_code == 0, done.output
    plain = lambda *words: CliRunner().invoke(app, [*map(str, words), "--data-dir", str(folder)])  # noqa: E731
    done = plain("costs", *model, "--sizes", "1,2,4", "--repetitions", 1, "--slots", 2, "--out", costs)
    assert done.exit_code == 0, done.output
    recorded = load_trace(trace)
    words = [*model, "--trace", trace, "--costs", costs, "--slots", 2, "--cache", "static,lru", "--miss", "block",
             "--queue-size", 1, "--in-flight", 1, "--lockstep", 0, "--replications", 1]  # fmt: skip
    for known, mark, served, passes in (
        ([], "held-out", "second-half", recorded.T // 2), (["--known", "hindsight"], "hindsight", "all", recorded.T),
    ):  # fmt: skip
        out = folder / f"executed-{mark}"
        done = plain("execute", *words, *known, "--out", out)
        assert done.exit_code == 0, done.output
        assert f"known: {mark}" in done.output
        runs = [load_run(out, name) for name in run_names(out)]
        found = {each.header["config"]["memory"]["cache"]: each.header["known"] for each in runs if each.transfers}
        assert found == {"static": mark, "lru": "none"}
        assert {each.header["config"].get("served", "all") for each in runs} == {served}
        assert {len(each.passes["end_ns"]) for each in runs} == {passes}
