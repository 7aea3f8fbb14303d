"""Numbers that do not fit where they go are refused by name; none wraps, none is cut."""

import json
import resource

import numpy as np
import pytest
from tiny_traces import random_trace

from moe_replay.traces.command_line import memory_room
from moe_replay.traces.command_line.memory_room import check_room, free_bytes
from moe_replay.traces.command_line.number_limits import checked, narrowed
from moe_replay.traces.errors import InputError
from moe_replay.traces.exporters.export_subject import Subject
from moe_replay.traces.exporters.exporter_names import export
from moe_replay.traces.header import ModelInfo
from moe_replay.traces.importers.reading.token_rows import Sequences
from moe_replay.traces.load_trace import LoadTrace
from moe_replay.traces.placements.expert_placement import load_placement


def loads(count, iterations=1):
    model = ModelInfo(name="m", experts=2, used_k=1, layer_ids=(0,))
    return LoadTrace(
        model=model, data={"name": None, "digest": None, "note": None},
        load_SRMLE=np.full((iterations, 1, 1, 1, 2), count, np.int64), iteration_S=np.arange(iterations),
        rank_R=np.zeros(1, np.int32),
    )  # fmt: skip


@pytest.mark.parametrize("value", [2**31, 2**40, -(2**31) - 1])
def test_no_number_wraps(value):
    assert narrowed("x", np.array([2**31 - 1, -(2**31)]), np.int32).tolist() == [2**31 - 1, -(2**31)]
    with pytest.raises(InputError, match=f"x: {value} is not allowed; allowed: -2,147,483,648..2,147,483,647"):
        narrowed("x", np.array([0, value]), np.int32)


def test_unsigned_numbers_of_64_bits_do_not_wrap():
    with pytest.raises(InputError, match=f"x: {2**63} is not allowed"):
        narrowed("x", np.array([2**63], np.uint64), np.int64)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 2**63, -(2**63), 10**400])
def test_what_is_no_number_of_64_bits(value):
    with pytest.raises(InputError, match=r"--x: .* is not allowed"):
        checked("--x", value)


@pytest.mark.parametrize(("kind", "name"), [("sglang", "x.json"), ("tensorrt-llm", "x")])
def test_counts_that_an_engine_cannot_hold_are_not_exported(kind, name, tmp_path):
    """Both formats hold int32: 2^31 selections came out as a negative count."""
    export(kind, Subject(loads(2**31 - 1)), tmp_path / name)
    with pytest.raises(InputError, match="2147483648 is not allowed"):
        export(kind, Subject(loads(2**31)), tmp_path / f"other-{name}")


def test_counts_whose_sum_leaves_64_bits():
    assert loads(2**60).load_LE.tolist() == [[2**60, 2**60]]
    with pytest.raises(InputError, match=r"selections sum to 1\.845e\+19, allowed less than"):
        loads(2**61, iterations=4)


def test_positions_beyond_32_bits():
    sequences = Sequences(np.array([3]), np.array([1]), np.array([2**31 - 2]))
    with pytest.raises(InputError, match="position: 2147483648 is not allowed"):
        sequences.token_fields()


@pytest.mark.parametrize("slots", [[[0.5, 1.0]], [[0, 70000]], [[0, 2**70]], [["a", "b"]]])
def test_placements_of_what_are_no_experts(slots, tmp_path):
    """Half an expert was expert 0."""
    content = {
        "kind": "placement", "schema": 1, "model": "m", "experts": 2, "devices": 1, "layer_ids": [0],
        "expert_LP": slots, "provenance": {},
    }  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="expert_LP is no table of expert numbers"):
        load_placement(tmp_path / "x.json")


def test_layers_that_memory_cannot_hold(rng):
    with pytest.raises(InputError, match=r"--hidden-layers: 1,000,000,000,000 would take about .* GiB"):
        Subject(random_trace(rng), hidden_layers=10**12)


def test_the_estimate_is_held_against_what_is_left(monkeypatch):
    monkeypatch.setattr(memory_room, "free_bytes", lambda: 3.0 * 2**30)
    check_room("--x: things", 3, 2**30)
    with pytest.raises(InputError) as refused:
        check_room("--x: things", 4, 2**30)
    assert str(refused.value) == (
        "--x: things: 4 would take about 4 GiB of memory, this machine has 3 GiB left; allowed: fewer"
    )


def test_a_limit_on_the_process_counts():
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = free_bytes()
    assert 0 < before < 2**50
    try:
        resource.setrlimit(resource.RLIMIT_AS, (64 << 30, hard))
        assert free_bytes() <= min(before * 1.1 + 2**28, 64 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (1 << 20, hard))
        left = free_bytes()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    assert left == 0
