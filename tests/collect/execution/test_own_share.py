"""The executor's own share of a batch: its arithmetic, and its place in records, on a CPU and on a GPU."""

import numpy as np
import pytest
import torch
from cuda_stand_in import DEVICE, stand_in_for_cuda

from moe_replay.collect.execution.own_share import LEAST_APART, PAIRS, WorkMeter
from moe_replay.collect.real_layers.layer_shapes import LayerShape
from moe_replay.collect.real_layers.layer_stack import LayerStack, StackConfig
from moe_replay.collect.real_layers.layer_stack_blocks import LayerStackOnWeights
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

SHAPE = LayerShape("tiny", 16, 24, 4, 2)


def batches(service_ns, tokens):
    return {
        "start_ns": np.zeros(len(tokens), np.int64), "end_ns": np.array(service_ns), "tokens": np.array(tokens),
    }  # fmt: skip


def test_shares_by_hand():
    meter = WorkMeter(torch.device("cpu"), 3)
    meter.took_ns = [90, 80, 300]
    found = meter.summary(batches([100, 100, 400], [1, 5, 7]))
    assert (found["batches"], found["work_ns"], found["service_ns"]) == (3, 157, 200)
    assert found["share"] == pytest.approx(1 - 470 / 600, abs=1e-4)
    assert found["median"] == 0.2
    assert {size: each["share"] for size, each in found["by_size"].items()} == {"1": 0.1, "4": 0.24}


def executed(device, memory=None):
    spec = SyntheticSpec(layers=2, experts=4, k=2, sequences=6, prompt=(3, 3), decode=(4, 4))
    trace = synthetic_trace(spec, np.random.default_rng(3)).trace
    stack = LayerStack(StackConfig(SHAPE, layers=2), device)
    return LayerStackOnWeights(stack, trace).execute(RunConfig(arrivals="closed", in_flight=2, memory=memory), {})


def test_records_of_a_cpu_tell_the_share_of_every_batch():
    records = executed(torch.device("cpu"))
    share = records.header["own_share"]
    assert share["timed_by"] == "wall clock"
    assert share["batches"] == len(records.batches["size"])
    assert 0 < share["share"] < 1


def test_long_runs_make_no_more_events():
    with stand_in_for_cuda():
        meter = WorkMeter(DEVICE, 100 * PAIRS * LEAST_APART)
        assert len(meter.events) <= PAIRS
        assert all(event.ns is not None for pair in meter.events for event in pair)
        for _ in range(2 * meter.apart + 1):
            meter.begin()
            meter.launched()
            meter.done()
        found = meter.summary(batches([10**9] * len(meter.took_ns), [1] * len(meter.took_ns)))
    assert found["by_events"]["batches"] == 3


def test_records_of_a_gpu_tell_it_by_events_too():
    memory = MemoryConfig(slots=2, expert_bytes=3 * 16 * 24 * 2, link_bytes_per_s=64e9)
    with stand_in_for_cuda() as cuda:
        records = executed(DEVICE)
        pinned = cuda.calls["pinned"]
        with_slots = executed(DEVICE, memory)
    share = records.header["own_share"]
    assert share["batches"] == len(records.batches["size"])
    assert share["by_events"]["batches"] == -(-len(records.batches["size"]) // LEAST_APART)
    assert 0 < share["share"] < 1
    assert 0 < share["by_events"]["share"] < 1
    assert cuda.calls["synchronize"] == 0  # it would wait for copies of other streams
    assert cuda.calls["pinned"] == pinned + 2  # the index again, and the slow tier
    assert (with_slots.transfers["end_ns"] > 0).any()
