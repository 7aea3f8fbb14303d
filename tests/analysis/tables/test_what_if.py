"""Rows of `analysis runs`: no two read alike unless they are of one configuration, numbers sort, reasons are said."""

import dataclasses
import re
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from moe_replay.analysis.__main__ import app
from moe_replay.analysis.printing import WIDEST
from moe_replay.analysis.reading.configurations import (
    every_setting,
    in_order,
    inputs_of,
    printed_settings,
    said_of_all,
    settings_table,
)
from moe_replay.analysis.tables.what_if import runs_table
from moe_replay.simulate.__main__ import app as simulate_app
from moe_replay.simulate.config.cluster_config import ClusterConfig
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.policies.placement import PLACEMENTS
from moe_replay.traces.file.trace_file import save_trace
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

LOCKSTEP = RunConfig(scheduler="lockstep")
CLOSED = RunConfig(arrivals="closed", in_flight=4)
POISSON = RunConfig(arrivals="poisson", rate_per_s=10.0, seed=0)
RECORDED = RunConfig(arrivals="recorded")
LINKED = ClusterConfig(
    links="test", inside_latency_ns=1, inside_bytes_per_s=1e9, network_latency_ns=1, network_bytes_per_s=1e9,
    dispatch_bytes=1, combine_bytes=1,
)  # fmt: skip
SWAPPED = MemoryConfig(cache="importance", slots=2, miss="redirect", filled=True)
# Every field: (a configuration, its other value there). Two fields of one pair of rows differ nowhere else.
OF_RUNS = {
    "scheduler": (RunConfig(), "lockstep"), "queue_size": (RunConfig(), 16), "dense_queue_size": (RunConfig(), 2),
    "timeout_ns": (RunConfig(timeout_ns=1_234_567_890_123), 1_234_567_890_124), "max_step": (LOCKSTEP, 8),
    "arrivals": (RunConfig(), "steps"), "in_flight": (CLOSED, 5), "rate_per_s": (POISSON, 10.000000001),
    "load": (POISSON, 0.5), "k": (RunConfig(), 2), "sequences": (RunConfig(), 100), "dense": (RunConfig(), False),
    "served": (RunConfig(), "second-half"), "speed": (RECORDED, 2.0),
    "devices": (RunConfig(), 2), "memory": (RunConfig(), MemoryConfig()),
    "cluster": (LOCKSTEP, LINKED),
}  # fmt: skip
OF_CLUSTERS = {
    "links": (LINKED, "other"), "nodes": (LINKED, 2), "nics": (LINKED, 1), "inside_latency_ns": (LINKED, 2),
    "inside_bytes_per_s": (LINKED, 2e9), "network_latency_ns": (LINKED, 2), "network_bytes_per_s": (LINKED, 2e9),
    "dispatch_bytes": (LINKED, 2), "combine_bytes": (LINKED, 2), "mode": (LINKED, "hierarchical"),
    "unit": (LINKED, "selection"), "micro_batches": (LINKED, 2), "split": (LINKED, "nearest"), "homes": (LINKED, "row"),
    "shared_experts": (LINKED, 2),
}  # fmt: skip
OF_MEMORIES = {
    "cache": (MemoryConfig(), "fifo"), "slots": (MemoryConfig(slots=(1, 2)), (2, 1)),
    "scope": (MemoryConfig(), "global"), "miss": (MemoryConfig(), "block"),
    "prefetch": (MemoryConfig(), "previous-token"),
    "look_ahead": (MemoryConfig(prefetch="oracle"), 2), "filled": (MemoryConfig(), True), "period": (SWAPPED, 8),
    "link_latency_ns": (MemoryConfig(), 1), "link_bytes_per_s": (MemoryConfig(), 2e9),
    "expert_bytes": (MemoryConfig(), 2), "link": (MemoryConfig(), "wide"),
    "host_factor": (MemoryConfig(miss="host", filled=True), 2.0), "asks": (MemoryConfig(), "turn"),
}  # fmt: skip


def test_every_field_is_tried():
    one_value = {"placement"} if len(PLACEMENTS.shipped) == 1 else set()
    assert set(OF_RUNS) == {each.name for each in dataclasses.fields(RunConfig)} - {"seed"} - one_value
    assert set(OF_MEMORIES) == {each.name for each in dataclasses.fields(MemoryConfig)}
    assert set(OF_CLUSTERS) == {each.name for each in dataclasses.fields(ClusterConfig)}


def pairs():
    for name, (one, value) in OF_RUNS.items():
        yield one, replace(one, **{name: value})
    for name, (memory, value) in OF_MEMORIES.items():
        yield replace(CLOSED, memory=memory), replace(CLOSED, memory=replace(memory, **{name: value}))
    for name, (cluster, value) in OF_CLUSTERS.items():
        linked = replace(LOCKSTEP, devices=4, cluster=cluster)
        yield linked, replace(linked, cluster=replace(cluster, **{name: value}))


def names_of_pairs():
    parts = (("memory", OF_MEMORIES), ("cluster", OF_CLUSTERS))
    return [*OF_RUNS, *(f"{part}-{name}" for part, fields in parts for name in fields)]


def rows_of(configs):
    return settings_table([every_setting(config.as_dict()) for config in configs])


@pytest.mark.parametrize("pair", list(pairs()), ids=names_of_pairs())
def test_rows_of_two_configurations_never_read_alike(pair):
    table = rows_of(pair)
    shown = printed_settings(table)
    assert len(shown) >= 1
    assert len(set(zip(*shown.values(), strict=True))) == 2
    assert (table.iloc[0].map(repr) != table.iloc[1].map(repr)).any()


def test_rows_of_many_configurations_never_read_alike():
    configs = list(dict.fromkeys(config for pair in pairs() for config in pair))
    shown = printed_settings(rows_of(configs))
    assert len(set(zip(*shown.values(), strict=True))) == len(configs)


@pytest.mark.parametrize(
    ("name", "value"),
    [("timeout_ns", 1000), ("k", 2), ("sequences", 50), ("dense_queue_size", 2), ("served", "second-half")],
)
def test_none_is_a_value_and_not_left_out(name, value):
    """A second row that differs in B too: what it alone has is not said of both."""
    table = rows_of([RunConfig(), RunConfig(queue_size=4, **{name: value})])
    assert len(printed_settings(table)) == 2
    assert name not in said_of_all(table)


def test_what_does_not_apply_is_said_once():
    table = rows_of([RunConfig(queue_size=2), replace(CLOSED, queue_size=4), replace(CLOSED, memory=MemoryConfig())])
    assert list(printed_settings(table)) == ["B", "arrivals", "cache"]
    assert "in_flight 4" in said_of_all(table)
    assert "C 1" in said_of_all(table)


def test_inputs_that_differ_are_columns():
    headers = [{"trace_digest": "a" * 32, "costs_digest": costs} for costs in ("b" * 32, "c" * 32)]
    shown = printed_settings(settings_table([every_setting(RunConfig().as_dict()) | inputs_of(h) for h in headers]))
    assert shown == {"costs_digest": ["b" * 8, "c" * 8]}


def test_numbers_sort_as_numbers():
    rates, sizes = (9.5, 10.0, 100.0, 1000.0), (8, 16, 128)
    configs = [replace(POISSON, rate_per_s=rate, queue_size=size) for size in sizes[::-1] for rate in rates[::-1]]
    table = rows_of(configs)
    ordered = table.iloc[in_order(table)]
    assert list(zip(ordered["rate_per_s"], ordered["queue_size"], strict=True)) == [
        (r, b) for r in rates for b in sizes
    ]
    table = rows_of([replace(CLOSED, memory=MemoryConfig(slots=slots)) for slots in (16, (2, 16), 4, (2, 4))])
    assert table.iloc[in_order(table)]["slots"].tolist() == [4, 16, "2.4", "2.16"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    spec = SyntheticSpec(layers=2, experts=5, k=2, sequences=30, prompt=(3, 5), decode=(4, 6))
    path = tmp_path_factory.mktemp("what-if") / "toy.trace.parquet"
    save_trace(synthetic_trace(spec, np.random.default_rng(0)).trace, path)
    return path


def call(program, *words):
    done = CliRunner().invoke(program, [str(word) for word in words])
    assert done.exit_code == 0, (words, done.output, done.exception)
    return done.output


def test_max_step_is_shown_and_worlds_are_left_out(path, tmp_path):
    words = ("--affine", "2000,100", "--jobs", 1)
    call(simulate_app, "run", path, *words, "--scheduler", "lockstep", "--max-step", "2,8,16", "--arrivals", "closed",
         "--in-flight", 16, "--out", tmp_path / "runs")  # fmt: skip
    table = runs_table(tmp_path / "runs")
    assert table.settings["max_step"].tolist() == [2, 8, 16]
    said = call(app, "runs", tmp_path / "runs")
    assert re.search(r"^ *(row +)?max_step", said, re.MULTILINE)
    assert "in_flight 16" in said
    call(simulate_app, "memory", path, *words, "--expert-bytes", 4000, "--slots", "2,3", "--out", tmp_path / "memory")
    table = runs_table(tmp_path / "memory")
    assert set(table.settings["link"]) == {None, "fifo"}
    assert table.worlds > 0
    said = call(app, "runs", tmp_path / "memory")
    assert f"left out: {table.worlds} worlds that explain lost time" in said
    assert len(runs_table(tmp_path / "memory", with_worlds=True).settings) == len(table.settings) + table.worlds


def test_reasons_are_printed_and_lines_fit(path, tmp_path):
    call(simulate_app, "sweep", path, "--affine", "2000,100", "--axis", "queue_size=1,16",
         "--axis", "rate_per_s=9.5,100,1e6", "--axis", "sequences=3,300", "--jobs", 1,
         "--out", tmp_path / "s.parquet")  # fmt: skip
    said = call(app, "runs", tmp_path / "s.parquet")
    lines = said.splitlines()
    assert max(len(line) for line in lines[:13]) <= WIDEST
    assert any(line.startswith("rows ") and "too short for a window" in line for line in lines)
    assert any("unstable: arrivals are " in line and " to " in line for line in lines)
    rates = [line.split()[2] for line in lines[1:13]]
    assert [float(rate) for rate in rates] == sorted(float(rate) for rate in rates)
