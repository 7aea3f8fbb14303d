"""Records: what a run leaves, again and again the same bytes."""

import numpy as np
import pytest
from worlds import config, fixed, records, run, world

from moe_replay.simulate.engines.simpy_engine import Engine
from moe_replay.simulate.policies.run_log import run_header
from moe_replay.traces.runs.run_records import load_run, members_crc


def routed(tokens=60, experts=6, seed=0):
    """Return nested expert lists: two distinct experts per token in each of two layers."""
    rng = np.random.default_rng(seed)
    return [[rng.choice(experts, 2, replace=False).tolist() for _ in range(2)] for _ in range(tokens)]


def poisson_records(seed):
    settings = config(queue_size=4, arrivals="poisson", rate_per_s=1e6, seed=seed, dense=True)
    workload = world(routed(), 6, rng=settings.generator("sequences"))
    return records(workload, settings, lambda layer, block, tokens: 100 + 30 * tokens)


def test_tables_say_who_ran_when():
    tokens = world([[[0]], [[1]], [[0]]], E=2, sequence=[7, 7, 9])
    table = records(tokens, config(queue_size=1, dense=True), lambda layer, block, tokens: 10 * tokens, [0, 5])
    assert {name: column.tolist() for name, column in table.passes.items()} == {
        "pass_id": [0, 1], "sequence": [7, 9], "step": [0, 0], "tokens": [2, 1],
        "arrival_ns": [0, 5], "start_ns": [0, 20], "end_ns": [80, 90],
    }  # fmt: skip
    batches = {name: column.tolist() for name, column in table.batches.items() if name != "members_crc"}
    assert batches == {
        "device": [0] * 7, "layer": [0, 0, 0, 0, 0, 1, 1], "block": [0, 0, 1, 2, 1, 0, 0], "size": [1] * 7,
        "tokens": [2, 1, 1, 1, 1, 2, 1], "ready_ns": [0, 5, 20, 20, 30, 50, 60],
        "start_ns": [0, 20, 30, 40, 50, 60, 80], "end_ns": [20, 30, 40, 50, 60, 80, 90],
        "forced": [False] * 7, "hit": [-1] * 7,
    }  # fmt: skip


def test_members_are_told_apart_by_the_checksum_that_executions_use():
    replay = run(world(routed(), 6), config(queue_size=3), fixed(10))
    table = replay.recording.records({"config": {}})
    assert table.batches["members_crc"].tolist() == [members_crc(batch.members) for batch in replay.recording.batches]


def test_a_world_without_any_work_has_passes_and_no_batches():
    table = records(world([[[], []]] * 3, 2), config(), fixed(10), [4, 5, 6])
    assert table.passes["end_ns"].tolist() == table.passes["arrival_ns"].tolist() == [4, 5, 6]
    assert len(table.batches["size"]) == 0


def test_the_same_seed_leaves_the_same_bytes(tmp_path):
    for folder in ("first", "second"):
        poisson_records(seed=1).save(tmp_path / folder, "run")
    for name in ("run.passes.parquet", "run.batches.parquet"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert load_run(tmp_path / "first", "run").batches["size"].sum() == 60 * (2 * 2 + 3)


def test_a_replication_alone_is_that_replication_among_others():
    among_others = [poisson_records(seed) for seed in range(3)]
    alone = poisson_records(2)
    assert alone.passes["end_ns"].tolist() == among_others[2].passes["end_ns"].tolist()
    assert alone.passes["end_ns"].tolist() != among_others[1].passes["end_ns"].tolist()


def test_busy_time_is_the_sum_of_batch_costs_and_every_selection_is_counted():
    table = poisson_records(seed=0)
    batches = table.batches
    busy = (batches["end_ns"] - batches["start_ns"]).sum()
    assert busy == (100 + 30 * batches["tokens"]).sum()
    assert batches["size"][batches["block"] > 0].sum() == 60 * 2 * 2
    assert batches["size"][batches["block"] == 0].sum() == 60 * 3


def test_a_run_that_lost_a_pass_gives_no_records():
    engine = Engine(world([[[0]]] * 2, 1), config(queue_size=1), fixed(10))
    engine.run()
    engine.replay.recording.end_ns_P[1] = -1
    with pytest.raises(RuntimeError, match="1 of 2 passes never finished"):
        engine.replay.recording.records({})


def test_the_header_says_what_ran_and_what_was_not_modelled():
    header = run_header("simulated", config(devices=2), "a device", "abc", "def", {"seed": 0})
    assert header["source"] == "simulated"
    assert header["config"]["devices"] == 2
    assert (header["trace_digest"], header["costs_digest"]) == ("abc", "def")
    assert header["communication"] == "communication not modelled"
    assert "communication" not in run_header("simulated", config(), "a device", "abc", None, {})
