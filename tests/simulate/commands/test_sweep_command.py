"""`python -m simulate sweep`: a grid from options or a file, one table, and one line for what is no grid."""

import pytest
from sweep_worlds import toy_study, toy_trace

from moe_replay.analysis.tables.what_if import runs_table
from moe_replay.simulate.commands.sweep_command import without_options
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.runs.sweep_table import load_sweep


@pytest.fixture
def simulate(simulate, monkeypatch, tmp_path):
    """Call the command in this process, in a folder with a trace; return (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    toy_study(tmp_path)
    return simulate


TOY = ("toy.trace.parquet", "--affine", "2000,100")
CLOSED = ("--axis", "queue_size=2,8", "--axis", "in_flight=8,16", "--replications", 2, "--jobs", 1)


def test_a_sweep_is_one_table_that_is_made_once(simulate, tmp_path):
    status, printed, _ = simulate("sweep", *TOY, *CLOSED, "--out", "sweep.parquet")
    assert (status, printed) == (0, "sweep.parquet: 8 points, 8 ok\n")
    points, header = load_sweep(tmp_path / "sweep.parquet")
    assert [point.run for point in points][:3] == [f"queues-B002-closed{n}" for n in ("8-s0", "8-s1", "16-s0")]
    assert header["points"] == 8
    assert "--jobs" not in header["provenance"]["command"]
    assert header["provenance"]["command"].endswith("--replications 2 --out sweep.parquet")
    whole = (tmp_path / "sweep.parquet").read_bytes()
    status, printed, said = simulate("sweep", *TOY, *CLOSED, "--out", "sweep.parquet")
    assert (status, printed) == (0, "sweep.parquet: 8 points, 8 ok\n")
    assert "all 8 points are complete already" in said
    assert (tmp_path / "sweep.parquet").read_bytes() == whole


def test_the_table_shows_what_a_folder_of_the_same_runs_shows(simulate, tmp_path):
    simulate("sweep", *TOY, *CLOSED, "--out", "sweep.parquet")
    simulate("run", *TOY, "--arrivals", "closed", "--queue-size", "2,8", "--in-flight", "8,16", "--replications", 2,
             "--jobs", 1, "--out", "runs")  # fmt: skip
    table, folder = (runs_table(tmp_path / name).whole for name in ("sweep.parquet", "runs"))
    assert len(table) == 4
    assert table.equals(folder)


def test_a_load_is_worked_out_as_run_does(simulate, tmp_path):
    words = ("--load", "0.5", "--arrivals", "poisson", "--queue-size", "2,8", "--jobs", 1, "--out", "runs")
    simulate("run", *TOY, *words)
    simulate("sweep", *TOY, "--axis", "queue_size=2,8", "--axis", "load=0.5", "--jobs", 1, "--out", "sweep.parquet")
    assert runs_table(tmp_path / "sweep.parquet").whole.equals(runs_table(tmp_path / "runs").whole)


def test_memories_from_a_file(simulate, tmp_path):
    (tmp_path / "grid.toml").write_text('cache = ["resident", "lru", "belady"]\nslots = [2, [2, 4]]\nqueue_size = 4\n')
    status, printed, _ = simulate("sweep", *TOY, "--grid", "grid.toml", "--jobs", 1, "--out", "sweep.parquet")
    assert status == 0
    assert printed == "sweep.parquet: 5 points, 5 ok\n"
    points, _ = load_sweep(tmp_path / "sweep.parquet")
    assert [point.config.get("memory", {}).get("slots") for point in points] == [None, 2, [2, 4], 2, [2, 4]]
    assert {point.config["memory"]["expert_bytes"] for point in points[1:]} == {1000}
    assert all(point.counts["hits"] > 0 for point in points[1:])
    assert len(runs_table(tmp_path / "sweep.parquet").settings.drop_duplicates()) == 5


def test_bytes_of_an_expert_must_be_known(simulate, tmp_path):
    save_trace(toy_trace(expert_bytes=None), tmp_path / "unknown.trace.parquet")
    words = ("sweep", "unknown.trace.parquet", "--affine", "1,1", "--axis", "slots=2", "--jobs", 1)
    status, _, said = simulate(*words, "--out", "sweep.parquet")
    assert (status, said.count("\n")) == (2, 1)
    assert "does not say how many bytes an expert has; allowed: an axis expert_bytes" in said
    assert simulate(*words, "--axis", "expert_bytes=100", "--out", "sweep.parquet")[0] == 0


def test_points_that_fail_are_told_and_kept(simulate, tmp_path):
    axes = ("--axis", "queue_size=2,8", "--axis", "k=1,9")
    for _ in range(2):  # also where the table is there already
        status, printed, said = simulate("sweep", *TOY, *axes, "--jobs", 1, "--out", "sweep.parquet")
        assert (status, printed) == (2, "sweep.parquet: 4 points, 2 ok, 2 failed\n")
        assert said.splitlines()[-2:] == [
            "queues-B002-all-k9-s0 and 1 more: failed: k is 9, allowed 1..6, the experts recorded per token and layer",
            "simulate: 2 of 4 points failed, for the reasons in sweep.parquet",
        ]
    points, _ = load_sweep(tmp_path / "sweep.parquet")
    assert [point.status for point in points] == ["ok", "failed", "ok", "failed"]
    table = runs_table(tmp_path / "sweep.parquet").whole
    assert sorted(table["status"]) == ["failed", "failed", "ok", "ok"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--axis", "queue_sise=8"), "unknown axis 'queue_sise'; known: arrivals, asks, cache"),
        (("--grid", "none.toml"), "none.toml: no such file"),
        ((), "nothing to sweep; allowed: --axis or --grid"),
        (("--axis", "k=9"), "k is 9, allowed 1..6"),
        (("--axis", "k=1", "--dask", "x:1", "--jobs", 2), "--jobs has no meaning beside --dask"),
        (("--axis", "k=1", "--engine", "fast"), "unknown engine 'fast'; known: auto, compiled, simpy"),
        (("--axis", "k=1", "--costs", "toy.trace.parquet"), "holds 'trace', expected 'costs'"),
        (("--axis", "k=1", "--resample"), "only measured repetitions can be resampled"),
        (("--axis", "k=1", "--known", "none.parquet"), "none.parquet: no such file"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_status_2(simulate, words, message, tmp_path):
    status, _, said = simulate("sweep", *TOY, *words, "--out", "sweep.parquet")
    assert status == 2
    assert message in said
    assert said.splitlines()[-1].startswith("simulate: ")
    assert "Traceback" not in said


def test_a_command_without_what_changes_no_result():
    command = "python -m simulate sweep x --jobs 2 --axis k=1 --dask=tcp://a:1 --engine simpy"
    kept = without_options(command.split(), ("--jobs", "--dask"))
    assert " ".join(kept) == "python -m simulate sweep x --axis k=1 --engine simpy"
