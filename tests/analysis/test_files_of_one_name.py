"""`analysis locality` and `miss-ratio`: two files of one name are two traces, printed and written."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from moe_replay.analysis.__main__ import app
from moe_replay.simulate.commands.miss_curves_command import write_curves
from moe_replay.simulate.misses.miss_curves import curve_rows
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folders a and b with a trace and its miss counts each, under the same names: one without reuse, one with."""
    folder = tmp_path_factory.mktemp("files")
    for name, reuse in (("a", 0.0), ("b", 0.9)):
        spec = SyntheticSpec(layers=2, experts=8, k=2, sequences=4, prompt=(3, 5), decode=(8, 8), reuse=reuse)
        trace = synthetic_trace(spec, np.random.default_rng(0)).trace
        (folder / name).mkdir()
        save_trace(trace, folder / name / "toy.trace.parquet")
        write_curves(folder / name / "toy.csv", curve_rows(trace), trace.digest)
    return folder


def analyse(command, out, *paths):
    done = CliRunner().invoke(app, [command, *map(str, paths), "--out", str(out)])
    assert done.exit_code == 0, done.output
    return done.output


def test_misses_of_two_traces_of_one_name(files, tmp_path):
    said = analyse("miss-ratio", tmp_path / "both", files / "a" / "toy.csv", files / "b" / "toy.csv")
    both = pd.read_csv(tmp_path / "both" / "miss_ratio.csv")
    assert set(both["trace"]) == {"a/toy", "b/toy"}
    assert all(f"{name}: with 4 slots per layer" in said for name in ("a/toy", "b/toy"))
    inputs = json.loads((tmp_path / "both" / "miss_ratio.json").read_text())["inputs"]
    assert set(inputs) == {"a/toy.csv", "b/toy.csv"}
    for name in ("a", "b"):
        analyse("miss-ratio", tmp_path / name, files / name / "toy.csv")
        alone = pd.read_csv(tmp_path / name / "miss_ratio.csv")
        own = both[both["trace"] == f"{name}/toy"].reset_index(drop=True)
        pd.testing.assert_frame_equal(own.drop(columns=["set", "trace"]), alone.drop(columns=["set", "trace"]))


def test_locality_of_two_traces_of_one_name(files, tmp_path):
    said = analyse("locality", tmp_path / "both", *(files / name / "toy.trace.parquet" for name in ("a", "b")))
    both = pd.read_csv(tmp_path / "both" / "locality.csv")
    assert set(both["trace"]) == {"a/toy", "b/toy"}
    assert "a/toy" in said
    assert "b/toy" in said
    inputs = json.loads((tmp_path / "both" / "locality.json").read_text())["inputs"]
    assert set(inputs) == {"a/toy.trace.parquet", "b/toy.trace.parquet"}
    reuse = both[both["layer"] == "all"].groupby("trace")["reuse"].max()
    assert reuse["b/toy"] > reuse["a/toy"] + 0.3
