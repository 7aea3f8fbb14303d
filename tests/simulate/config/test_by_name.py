"""Cost tables and links by name: found where they are shipped, listed where a name is unknown."""

import numpy as np
import pyarrow as pa
import pytest

import moe_replay.traces.shipped
from moe_replay.simulate.__main__ import app
from moe_replay.simulate.commands.by_name import link_fields
from moe_replay.traces.command_line.command import status_of
from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import save_mixed
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.runs.cost_table import COST_COLUMNS, CostTable
from moe_replay.traces.runs.link_table import KIND, one_at_a_time
from moe_replay.traces.runs.run_records import load_run, run_names
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

MODEL = {"name": "small", "experts": 8, "k": 2, "width": 16, "hidden": 32, "dtype": "bfloat16"}


def costs_table():
    """A dense block of any layer and experts, 1 to 64 tokens."""
    rows = np.array([(layer, block, n, 0, 1000 + 10 * n) for layer, block in ((-1, 0), (0, 1)) for n in (1, 64)]).T
    columns = {name: values.astype(kind) for (name, kind), values in zip(COST_COLUMNS.items(), rows, strict=True)}
    header = {"device": "gpu", "model": MODEL, "expert_bytes": 5_000_000}
    return CostTable(columns, {**header, "dense": "without attention", "measured": "alone"})


def save_link(path, *links):
    names = ("host_memory", "copies", "latency_ns", "bytes_per_s", "error_percent")
    header = {"device": "gpu", "links": [dict(zip(names, link, strict=True)) for link in links]}
    save_mixed(path, pa.table({"copies": [1]}), header, KIND)


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """A folder of logs with one device's costs and link, and a trace."""
    folder = tmp_path / "data" / "gpu" / "shapes"
    folder.mkdir(parents=True)
    costs_table().save(folder / "small.costs.parquet")
    save_link(folder / "link.parquet", ("pageable", 1, 9, 1e9, 1.0), ("pinned", 2, 8, 6e10, 1.0),
              ("pinned", 1, 12_345, 5e10, 1.0))  # fmt: skip
    monkeypatch.setattr(moe_replay.traces.shipped, "DATA", tmp_path / "data")
    spec = SyntheticSpec(layers=5, experts=8, k=2, sequences=6, prompt=(2, 2), decode=(3, 3))
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, tmp_path / "t.trace.parquet")
    return tmp_path


def simulate(*words):
    return status_of(app, "simulate", list(map(str, words)))


def test_a_table_of_one_layer_runs_a_trace_of_five_by_its_name(shipped, capsys):
    trace, in_flight = shipped / "t.trace.parquet", ("--arrivals", "closed", "--in-flight", 4)
    out = {name: shipped / f"out-{name}" for name in ("name", "file", "experts")}
    path = shipped / "data" / "gpu" / "shapes" / "small.costs.parquet"
    assert simulate("run", trace, "--costs", "gpu/small", *in_flight, "--out", out["name"]) == 0
    assert simulate("run", trace, "--costs", path, *in_flight, "--out", out["file"]) == 0
    assert simulate("run", trace, "--costs", "gpu/small", "--no-dense", *in_flight, "--out", out["experts"]) == 0
    assert capsys.readouterr().out.count("costs of small on gpu, alone; dense blocks: without attention\n") == 3
    (run,) = run_names(out["name"])
    named, by_file = load_run(out["name"], run), load_run(out["file"], run)
    for name, values in named.batches.items():
        np.testing.assert_array_equal(values, by_file.batches[name])
    dense = named.batches["block"] == 0
    assert sorted(set(named.batches["layer"][dense].tolist())) == [0, 1, 2, 3, 4, 5]
    took = named.batches["end_ns"] - named.batches["start_ns"]
    np.testing.assert_array_equal(took, 1000 + 10 * named.batches["tokens"])
    (plain,) = run_names(out["experts"])
    assert (load_run(out["experts"], plain).batches["block"] > 0).all()


def test_expert_memory_takes_link_and_bytes_from_what_was_measured(shipped):
    words = (
        "memory",
        shipped / "t.trace.parquet",
        "--costs",
        "gpu/small",
        "--cache",
        "lru",
        "--slots",
        2,
        "--no-explain",
    )
    assert simulate(*words, "--link", "gpu", "--out", shipped / "out") == 0
    configs = [load_run(shipped / "out", name).header["config"] for name in run_names(shipped / "out")]
    (memory,) = [config["memory"] for config in configs if config.get("memory") is not None]
    assert memory["link_latency_ns"] == 12_345
    assert memory["link_bytes_per_s"] == 5e10
    assert memory["expert_bytes"] == 5_000_000
    sweep = "sweep", words[1], "--costs", "gpu/small", "--axis", "cache=lru", "--axis", "slots=2"
    assert simulate(*sweep, "--out", shipped / "sweep.parquet") == 0


def test_names_are_listed(shipped, capsys):
    assert simulate("costs") == 0
    said = capsys.readouterr().out
    assert "gpu/small" in said
    assert "1..64" in said
    assert said.count("pinned") == 3  # the title, and two ways to copy


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--costs", "gpu/large"), "gpu/large: no such file, and no cost table of that name; known: gpu/small"),
        (("--costs", "absent.parquet"), "absent.parquet: no such file"),
        (("--affine", "1,2", "--link", "h100"), "h100: no such file, and no link of that name; known: gpu"),
        (("--affine", "1,2", "--link", "gpu", "--bandwidth", "3"), "--link: allowed without --bandwidth"),
    ],
)  # fmt: skip
def test_unknown_names_are_refused_with_the_known_ones(shipped, capsys, options, said):
    assert simulate("memory", shipped / "t.trace.parquet", *options, "--expert-bytes", 1, "--out", shipped / "o") == 2
    assert said in capsys.readouterr().err
    assert not (shipped / "o").exists()


def test_a_link_needs_copies_by_one_stream(tmp_path):
    save_link(tmp_path / "two.parquet", ("pinned", 2, 8, 6e10, 1.0), ("pageable", 1, 8, 6e10, 1.0))
    with pytest.raises(InputError, match="has no copies from pinned memory by one stream"):
        one_at_a_time(tmp_path / "two.parquet")
    save_link(tmp_path / "cpu.parquet", ("host", 1, 8, 6e10, 1.0))
    assert link_fields(tmp_path / "cpu.parquet", None, None) == {"link_latency_ns": 8, "link_bytes_per_s": 6e10}


def test_numbers_stand_where_no_link_is_named():
    assert link_fields(None, None, None) == {"link_latency_ns": 10_000, "link_bytes_per_s": 16e9}
    assert link_fields(None, 2e9, 500) == {"link_latency_ns": 500, "link_bytes_per_s": 2e9}
