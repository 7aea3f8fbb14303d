"""`python -m simulate run --links`: records, their columns in tables, files of links and placements, bad input."""

import numpy as np
import pandas as pd
import pytest
from test_simulate_cli import toy_trace

import moe_replay
from moe_replay.analysis.tables.what_if import runs_table, shown
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.placements.expert_placement import ExpertPlacement, save_placement
from moe_replay.traces.runs.run_records import MESSAGE_COLUMNS, load_run, run_names

LINKS = """
[inside]
latency = "1us"
bandwidth = "10GB/s"
[network]
latency = "2us"
bandwidth = "1GB/s"
nics = 1
[exchange]
mode = "hierarchical"
dispatch_bytes = 100
combine_bytes = 200
"""


@pytest.fixture
def files(tmp_path):
    """A trace of six experts and three layers, a placement of it with replicas on four devices, and links."""
    save_trace(toy_trace(), tmp_path / "toy.trace.parquet")
    (tmp_path / "slow.toml").write_text(LINKS)
    table = np.array([[0, 1, 2, 3, 4, 5, 0, 1]] * 3, np.int16)
    held = ExpertPlacement(model="toy", experts=6, devices=4, nodes=2, layer_ids=(0, 1, 2), expert_LP=table)
    save_placement(held, tmp_path / "mine.placement.json", {})
    return tmp_path


def asked(files, *more):
    """Return the words of a run of the toy."""
    return (
        "run", files / "toy.trace.parquet", "--affine", "1000,100", "--scheduler", "lockstep", "--arrivals", "steps",
        "--devices", "4", "--replications", "0", "--engine", "simpy", "--jobs", "1", "--out", files / "runs", *more,
    )  # fmt: skip


def test_linked_runs_are_written_read_and_tabulated(simulate, files):
    more = ("--nodes", "2", "--links", files / "slow.toml", "--placement", files / "mine.placement.json")
    status, out, _ = simulate(*asked(files, *more, "--micro-batches", "1,2", "--split", "round-robin,nearest"))
    assert (status, out.splitlines()[-1]) == (0, f"4 of 4 runs in {files / 'runs'}")
    assert simulate(*asked(files, *more, "--micro-batches", "1,2"))[1].startswith("2 of 2 runs are complete already")
    names = run_names(files / "runs")
    for name in names:
        records = load_run(files / "runs", name)
        assert "communication" not in records.header
        assert list(records.messages) == list(MESSAGE_COLUMNS)
        assert records.header["config"]["cluster"]["links"] == "slow"
        assert records.batches["tokens"][records.batches["block"] > 0].sum() == 40 * 3 * 2
    found = runs_table(files / "runs").whole
    shares = found[["dense_share", "expert_share", "wire_share", "waiting_share"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares >= 0).all().all()
    assert set(zip(found["micro_batches"], found["split"], strict=True)) == {
        (m, split) for m in (1, 2) for split in ("round-robin", "nearest")
    }
    assert (found["network_bytes"] > 0).all()
    near = found[found["split"] == "nearest"]
    far = found[found["split"] == "round-robin"]
    assert (
        near["inside_bytes"].sum() + near["network_bytes"].sum()
        < far["inside_bytes"].sum() + far["network_bytes"].sum()
    )


def test_queues_are_written_read_and_tabulated_beside_lockstep(simulate, files):
    more = ("--nodes", "2", "--links", files / "slow.toml", "--placement", files / "mine.placement.json")
    swept = ("--scheduler", "queues,lockstep", "--mode", "direct", "--micro-batches", "1,2", "--queue-size", "2,4")
    status, out, told = simulate(*asked(files, *more, *swept))
    # Micro-batches mean nothing under queues, and B nothing in lockstep.
    assert (status, out.splitlines()[-1]) == (0, f"4 of 4 runs in {files / 'runs'}"), told
    for name in run_names(files / "runs"):
        records = load_run(files / "runs", name)
        assert "communication" not in records.header
        assert records.batches["tokens"][records.batches["block"] > 0].sum() == 40 * 3 * 2
        assert len(records.messages["end_ns"]) > 0
    found = runs_table(files / "runs").whole
    assert sorted(zip(found["scheduler"], found["queue_size"].fillna(0), found["micro_batches"], strict=True)) == [
        ("lockstep", 0, 1), ("lockstep", 0, 2), ("queues", 2, 1), ("queues", 4, 1)
    ]  # fmt: skip
    shares = found[["dense_share", "expert_share", "wire_share", "waiting_share"]]
    np.testing.assert_allclose(shares.sum(axis=1), 1)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--nodes", "2"), "--nodes has no meaning without --links"),
        (("--links", "h800"), "h800: no machine of that name, and no FILE.toml; known: a100-hdr"),
        (("--links", "x" * 5000), "no machine of that name"),
        (("--links", "SLOW", "--mode", ""), "unknown mode ''; known: direct, hierarchical"),
        (("--links", "SLOW", "--split", ","), "unknown split ''; known: nearest, round-robin"),
        (("--links", "h800-ndr"), "the trace does not say how many bytes a token has"),
        (("--links", "SLOW", "--nodes", "3"), "4 devices in 3 nodes, allowed: equally many in each"),
        (("--links", "SLOW", "--scheduler", "queues"), "mode 'hierarchical' is for lockstep, allowed under queues: 'd"),
        (
            ("--links", "SLOW", "--scheduler", "queues", "--mode", "direct", "--micro-batches", "1,2"),
            "micro_batches is 2, allowed 1 under queues: they have no step to cut",
        ),
        (("--links", "SLOW", "--micro-batches", "0"), "--micro-batches"),
        (("--links", "SLOW", "--shared-experts", "trace"), "--shared-experts trace: the trace's model has none"),
        (("--links", "SLOW", "--shared-experts", "all"), "--shared-experts: 'all' is no int"),
        (("--links", "SLOW", "--shared-experts", "-1"), "--shared-experts: -1 is not allowed; allowed: numbers >= 0"),
        (("--shared-experts", "1"), "--shared-experts has no meaning without --links"),
        (("--links", "SLOW", "--split", "even"), "unknown split 'even'; known: nearest, round-robin"),
        (("--links", "SLOW", "--mode", "ring"), "unknown mode 'ring'; known: direct, hierarchical"),
        (("--links", "SLOW", "--placement", "MINE"), "a placement of 2 nodes, allowed 1 as in the run"),
        (("--placement", "MINE"), "6 replicas, allowed none: runs without --links have one device for each expert"),
    ],
)
def test_what_cannot_be_linked_is_refused_in_one_line(simulate, files, more, said):
    places = {"SLOW": files / "slow.toml", "MINE": files / "mine.placement.json"}
    status, _, told = simulate(*asked(files, *(places.get(word, word) for word in more)))
    assert status == 2
    assert said in told.replace("\n", " ")


def test_a_printed_table_names_links_and_not_their_speeds(simulate, files):
    (files / "fast.toml").write_text(LINKS.replace("1GB/s", "9GB/s"))
    simulate(*asked(files, "--nodes", "2", "--links", f"{files / 'slow.toml'},{files / 'fast.toml'}"))
    printed, _ = shown(runs_table(files / "runs"))
    assert printed["links"].tolist() == ["fast", "slow"]
    assert "network_bytes_per_s" not in printed
    assert {"dense time", "expert time", "wire", "waiting"} <= set(printed)


def test_messages_are_columns_of_a_data_frame(simulate, files):
    simulate(*asked(files, "--nodes", "2", "--links", files / "slow.toml"))
    (name,) = run_names(files / "runs")
    table = pd.read_parquet(files / "runs" / f"{name}.messages.parquet")
    assert list(table) == list(MESSAGE_COLUMNS)
    assert (table["queued_ns"] <= table["start_ns"]).all()
    assert (table["start_ns"] < table["end_ns"]).all()


def test_a_sweep_and_python_run_the_same(simulate, files):
    axes = ("devices=4", "nodes=2", "micro_batches=1,2", "arrivals=steps", f"links={files / 'slow.toml'}")
    words = [word for axis in axes for word in ("--axis", axis)]
    status, _, told = simulate(
        "sweep", files / "toy.trace.parquet", "--affine", "1000,100", *words, "--replications", "0",
        "--engine", "simpy", "--jobs", "1", "--out", files / "sweep.parquet",
    )  # fmt: skip
    assert status == 0, told
    swept = runs_table(files / "sweep.parquet").whole
    assert swept["micro_batches"].tolist() == [1, 2]
    assert (swept["links"] == "slow").all()
    run = moe_replay.replay(
        files / "toy.trace.parquet", (1e-6, 1e-7), seed=None, engine="simpy", devices=4, nodes=2, micro_batches=2,
        scheduler="lockstep", arrivals="steps", links=str(files / "slow.toml"),
    )  # fmt: skip
    for name in ("wire_share", "straggler_share", "inside_bytes", "network_bytes", "messages"):
        assert run.statistics.values[name] == pytest.approx(swept[name][1])
    assert len(run.to_pandas("messages")) > swept["messages"][1]  # those of the window


def test_queues_are_an_axis_of_a_sweep_and_a_setting_in_python(simulate, files):
    axes = (
        "devices=4", "nodes=2", "queue_size=2,4", "arrivals=closed", "in_flight=8", "mode=direct",
        f"links={files / 'slow.toml'}",
    )  # fmt: skip
    words = [word for axis in axes for word in ("--axis", axis)]
    status, _, told = simulate(
        "sweep", files / "toy.trace.parquet", "--affine", "1000,100", *words, "--replications", "0",
        "--engine", "simpy", "--jobs", "1", "--out", files / "sweep.parquet",
    )  # fmt: skip
    assert status == 0, told
    swept = runs_table(files / "sweep.parquet").whole
    assert swept["scheduler"].tolist() == ["queues", "queues"]
    run = moe_replay.replay(
        files / "toy.trace.parquet", (1e-6, 1e-7), seed=None, engine="simpy", devices=4, nodes=2, mode="direct",
        scheduler="queues", queue_size=4, arrivals="closed", in_flight=8, links=str(files / "slow.toml"),
    )  # fmt: skip
    for name in ("wire_share", "inside_bytes", "network_bytes", "messages"):
        assert run.statistics.values[name] == pytest.approx(swept[name][1])
