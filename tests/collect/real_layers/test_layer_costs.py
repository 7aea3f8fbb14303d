"""Costs and times of published shapes, and links: tables that are whole, on a CPU and by a stand-in for a GPU."""

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch
from cuda_stand_in import NAME, Stream, stand_in_for_cuda
from typer.testing import CliRunner

from moe_replay.collect.__main__ import application
from moe_replay.collect.execution.calibration import CalibrationPlan
from moe_replay.collect.real_layers import expert_timing, link_timing
from moe_replay.collect.real_layers.expert_timing import LayerTimes, TimesPlan
from moe_replay.collect.real_layers.layer_shapes import LayerShape
from moe_replay.collect.real_layers.layer_stack import LayerStack, StackConfig
from moe_replay.collect.real_layers.link_timing import Link, LinkPlan, fitted, line, measure_link, sizes_of
from moe_replay.collect.real_layers.loop_costs import measure_loop
from moe_replay.traces.file.mixed_table import load_mixed
from moe_replay.traces.runs import layer_times, link_table
from moe_replay.traces.runs.cost_table import load_costs
from moe_replay.traces.runs.layer_times import ALL_EXPERTS, FORMS

SHAPE = LayerShape("tiny", 16, 24, 6, 2)
CPU = torch.device("cpu")


def invoke(*words):
    """Run a command in this process."""
    return CliRunner().invoke(application(), list(map(str, words)))


def run_command(*words):
    """Run Python with these words."""
    return subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False)


def plan(**fields):
    return TimesPlan(**{"sizes": (1, 3), "repetitions": 2, "visits": 4, **fields})


@pytest.fixture(autouse=True)
def small_filler(monkeypatch):
    """A stand-in is kept busy by nothing: a product that takes a CPU no time will do."""
    monkeypatch.setattr(expert_timing, "FILLER", 8)


@pytest.fixture(scope="module")
def stack():
    return LayerStack(StackConfig(SHAPE, 1), CPU)


def test_a_table_of_one_layer_serves_models_of_any_number_of_layers(stack):
    visited = []
    table = measure_loop(stack, CPU, CalibrationPlan((1, 4, 600), 2), 60, {"dense": "said"}, visited.append)
    assert sorted(visited) == [1, 1, 4, 4, 600]  # above LARGE once
    assert table.dense_layers == []
    assert table.dense_of(32) == list(range(33))
    assert table.service_ns(31, 0, 4) == table.service_ns(0, 0, 4) > 0
    experts = table.columns["block"] > 0
    assert sorted(set(table.columns["block"][experts].tolist())) == [1, 2, 3, 4, 5, 6]
    assert experts.sum() == 2 * 6 * 5  # every expert twice a visit
    assert (~experts).sum() == 5 * 5  # of six groups of a visit one is embedded in the first round; none of the head
    assert table.header["model"]["name"] == "tiny"
    assert table.header["dense"] == "said"


def test_no_repetition_begins_after_the_time_is_up_but_the_first(stack):
    table = measure_loop(stack, CPU, CalibrationPlan((1, 2), 5), 0, {})
    assert set(table.columns["repetition"].tolist()) == {0}
    timed = LayerTimes(stack, CPU, plan(repetitions=5, seconds=0)).measure()
    assert set(timed["repetition"].to_pylist()) == {0}


def test_experts_are_timed_in_turn_and_steps_as_a_whole(stack):
    times = LayerTimes(stack, CPU, plan())
    rows = times.measure().to_pylist()
    assert times.lacking == dict.fromkeys(("event", "dense-event", "grouped"), "needs a CUDA device")
    alone = [row for row in rows if row["form"] == "wall"]
    assert len(alone) == 2 * 2 * 4
    assert {row["expert"] for row in alone} == set(range(6))
    assert {row["expert"] for row in rows if row["form"] == "looped"} == {ALL_EXPERTS}
    dense = [row for row in rows if row["form"] == "dense-wall"]
    assert {row["tokens"] for row in dense} == {1, 3, 6}  # of six experts two are chosen: up to three times as many
    assert len(dense) == 2 * 3 * 4
    assert len(rows) == len(alone) + len(dense) + 2 * 2
    assert min(row["took_ns"] for row in rows) > 0


def test_a_gpu_is_timed_by_events_and_grouped_products_too(cuda):
    where = torch.device("cuda")
    timed = LayerTimes(LayerStack(StackConfig(SHAPE, 1), where), where, plan())
    rows = timed.measure().to_pylist()
    assert timed.lacking == {}
    assert {row["form"] for row in rows} == set(FORMS)
    assert cuda.calls["synchronize"] > 0
    assert len([row for row in rows if row["form"] == "event"]) == 2 * 2 * 4


def test_the_grouped_step_computes_what_the_experts_do(monkeypatch, stack):
    times = LayerTimes(stack, CPU, plan())
    made = []
    monkeypatch.setattr(times, "clocked", lambda work: made.append(work()) or 1)
    monkeypatch.setattr(times, "drawn", lambda rows: torch.ones(rows, 16, dtype=torch.bfloat16))
    times.grouped(3)
    times.looped(3)
    grouped, looped = made
    torch.testing.assert_close(grouped, torch.cat(looped), rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("form", "error", "lacking"),
    [
        ("grouped", RuntimeError("grouped gemm is not known\nmore"), {"grouped": "grouped gemm is not known"}),
        ("looped", torch.OutOfMemoryError("no"), {"looped 3": "needs more memory than the device has"}),
    ],
)
def test_what_a_gpu_cannot_do_is_left_out_by_name(monkeypatch, form, error, lacking):
    with stand_in_for_cuda():
        where = torch.device("cuda")
        timed = LayerTimes(LayerStack(StackConfig(SHAPE, 1), where), where, plan())
        plain = getattr(timed, form)

        def failing(tokens):
            if tokens == 3 or form == "grouped":
                raise error
            return plain(tokens)

        monkeypatch.setattr(timed, form, failing)
        found = timed.measure()
    assert timed.lacking == lacking
    assert {"wall", "event"} <= set(found["form"].to_pylist())


def test_another_failure_is_not_left_out(monkeypatch, stack):
    timed = LayerTimes(stack, CPU, plan())
    monkeypatch.setattr(timed, "clocked", lambda work: (_ for _ in ()).throw(RuntimeError("illegal access")))
    with pytest.raises(RuntimeError, match="illegal access"):
        timed.measure()


def test_links_of_a_gpu_are_measured_from_both_memories_by_streams():
    sizes = tuple(sizes_of([SHAPE.expert_bytes(torch.bfloat16)]))
    assert sizes == (18, 72, 288, 576, 1152, 2304)
    with stand_in_for_cuda() as cuda:
        table = measure_link(torch.device("cuda"), LinkPlan(sizes, (1, 4), 3))
    assert cuda.calls["pinned"] == 1
    assert Stream.made == 2 * 4
    assert cuda.calls["non_blocking"] == 4 * len(sizes) * 2 * (1 + 4)
    assert len(table) == 2 * 2 * len(sizes) * 3
    assert [(link["host_memory"], link["copies"]) for link in fitted(table)] == [
        ("pinned", 1), ("pinned", 4), ("pageable", 1), ("pageable", 4)
    ]  # fmt: skip


def test_a_cpu_has_one_memory_and_no_streams():
    table = measure_link(CPU, LinkPlan((100, 1000), repetitions=9, seconds=0))
    assert set(table["host_memory"].to_pylist()) == {"host"}
    assert len(table) == 2 * link_timing.LEAST


def test_copies_go_through_all_of_the_memory_in_turn():
    link = Link(link_table.HOST, CPU, 1, 20_000)
    parts = [link.turn(5000) for _ in range(4)]
    assert [(part.start, part.stop) for part in parts] == [(0, 5000), (8192, 13192), (0, 5000), (8192, 13192)]
    link.target_SB.zero_()
    link.took_ns(1, 20_000)
    assert int(link.target_SB.sum()) == 20_000


def link_rows(latency_ns, bytes_per_s, streams=1):
    sizes = [1000, 10_000, 1_000_000, 50_000_000]
    rows = [(size, round((latency_ns + streams * size / bytes_per_s * 1e9) * noise))
            for size in sizes for noise in (0.99, 1, 1.01, 9)]  # fmt: skip
    return pa.table({
        "host_memory": ["pinned"] * len(rows), "copies": np.full(len(rows), streams, np.int32),
        "copy_bytes": [size for size, _ in rows], "repetition": np.zeros(len(rows), np.int32),
        "took_ns": [ns for _, ns in rows],
    })  # fmt: skip


@pytest.mark.parametrize("streams", [1, 3])
def test_the_fit_finds_the_line_that_times_were_made_from(streams):
    """One time in four is nine times as long: the medians do not mind."""
    (link,) = fitted(link_rows(12_000, 50e9, streams))
    assert link["copies"] == streams
    assert link["latency_ns"] == pytest.approx(12_000, rel=0.02)
    assert link["bytes_per_s"] == pytest.approx(50e9, rel=0.02)
    assert link["error_percent"] < 2


def test_a_line_is_never_below_zero():
    assert line(np.array([100.0, 1000.0]), np.array([50.0, 1000.0]))[0] == 0
    assert line(np.array([100.0, 1000.0]), np.array([500.0, 400.0]))[1] > 0
    assert line(np.array([100.0]), np.array([50.0])) == (0, 0.5)


def test_the_commands_run_on_a_gpu(tmp_path):
    small = "--device", "cuda", "--scale", 256, "--repetitions", 1
    with stand_in_for_cuda() as cuda:
        shapes = invoke("layer-costs", "mixtral-8x7b", *small, "--sizes", "1,2", "--out", tmp_path)
        link = invoke("link", "--shapes", "mixtral-8x7b", *small, "--out", tmp_path / "link.parquet")
    assert (shapes.exit_code, link.exit_code) == (0, 0), shapes.output + link.output
    assert cuda.calls["empty_cache"] == 1
    found, header = load_mixed(tmp_path / "mixtral-8x7b-by-256.times.parquet", layer_times.KIND)
    assert (header["device"], header["lacking"]) == (NAME.lower().replace(" ", "-"), {})
    assert set(found["form"].to_pylist()) == set(FORMS)
    alone = load_costs(tmp_path / "mixtral-8x7b-by-256-alone.costs.parquet")
    own = found.filter(pc.field("form") == "event")
    assert sorted(ns for each in alone.repetitions(0, 1).values() for ns in each) == sorted(own["took_ns"].to_pylist())
    assert alone.dense_of(60) == list(range(61))
    assert alone.header["measured"].startswith("one expert alone, between two CUDA events")
    links = load_mixed(tmp_path / "link.parquet", link_table.KIND)[1]["links"]
    assert [(link["host_memory"], link["copies"]) for link in links] == [
        (memory, streams) for memory in ("pinned", "pageable") for streams in (1, 2, 3, 4)
    ]


OPTIONS = ("--device", "cpu", "--scale", "64", "--seconds", "0", "--repetitions", "1")


def test_the_commands_leave_whole_files_and_find_them_again(tmp_path):
    shapes = "-m", "collect", "layer-costs", "olmoe", "gpt-oss-20b", *OPTIONS, "--sizes", "1,2", "--out", tmp_path
    link = "-m", "collect", "link", "--shapes", "olmoe", *OPTIONS, "--out", tmp_path / "link.parquet"
    said = run_command(*shapes), run_command(*link)
    assert [each.returncode for each in said] == [0, 0]
    assert "olmoe-by-64: " in said[0].stdout
    table = load_costs(tmp_path / "gpt-oss-20b-by-64.costs.parquet")
    assert table.header["model"]["scale"] == 64
    _, header = load_mixed(tmp_path / "olmoe-by-64.times.parquet", layer_times.KIND)
    assert set(header["lacking"]) == {"event", "dense-event", "grouped"}
    (fit,) = load_mixed(tmp_path / "link.parquet", link_table.KIND)[1]["links"]
    assert (fit["host_memory"], fit["copies"]) == ("host", 1)
    assert fit["bytes_per_s"] > 0
    kept = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    (tmp_path / "olmoe-by-64.times.parquet").unlink()  # interrupted between the two: the shape is made anew, no other
    again = run_command(*shapes, "--seconds", "1"), run_command(*link)
    assert "gpt-oss-20b-by-64: is there already" in again[0].stdout
    assert table.header["measured"] == "in the executor's loop, wall clock"
    assert "is there already" in again[1].stdout
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert found.keys() == kept.keys()
    assert {name for name in kept if found[name] != kept[name]} == {
        "olmoe-by-64.times.parquet", "olmoe-by-64.costs.parquet", "olmoe-by-64-alone.costs.parquet"
    }  # fmt: skip
    alone = tmp_path / "gpt-oss-20b-by-64-alone.costs.parquet"
    before = load_costs(alone)
    alone.unlink()  # made from the times: nothing is measured for it
    assert "gpt-oss-20b-by-64: is there already" in invoke(*shapes[2:]).output
    for name, values in load_costs(alone).columns.items():
        np.testing.assert_array_equal(values, before.columns[name])
    other = run_command(*shapes[:-4], "--sizes", "1,4", "--out", tmp_path)
    assert other.returncode == 2
    assert "its sizes is [1, 2], asked for [1, 4]; allowed: --force to replace it" in other.stderr
    many = invoke("link", "--streams", "1,99", "--device", "cpu", "--out", tmp_path / "new")
    assert "--streams: 99 is not allowed; allowed: 1..32" in str(many.exception)
    assert run_command("-m", "collect", "layer-costs", "mixtral", "--out", tmp_path / "new").returncode == 2
