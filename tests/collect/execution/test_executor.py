"""Execution on real weights: nothing lost or misrouted, the simulator's batches, moments stamped when they were due."""

import itertools
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from step_log import rounds_of

from moe_replay.collect.execution.classifier_blocks import ClassifierBlocks, ClassifierOnWeights, plain_forward
from moe_replay.collect.execution.executor import Executor, check_outputs
from moe_replay.collect.models.classifier import CONFIGURATIONS, Classifier
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.simulate.config.workload import trace_workload
from moe_replay.simulate.engines.simpy_engine import simulate
from moe_replay.simulate.policies.instant_order import STEPS
from moe_replay.traces.errors import InputError

SEQUENCE_COLUMNS = ("device", "layer", "block", "size", "tokens", "forced", "members_crc")


@pytest.fixture
def real(trained, blobs):
    model, _, trace = trained
    return ClassifierOnWeights(model, trace, torch.from_numpy(blobs.test_NF), blobs.test_label_N)


CLOSED = RunConfig(arrivals="closed", in_flight=40, sequences=200, seed=3)


@pytest.mark.parametrize(
    "config",
    [replace(CLOSED, queue_size=size) for size in (1, 4, 16, 64)]
    + [RunConfig(scheduler="lockstep", max_step=16, arrivals="closed", in_flight=40, sequences=200, seed=3)]
    + [RunConfig(queue_size=8, arrivals="all", k=3)],
    ids=lambda config: config.name,
)
def test_executed_and_simulated_batches_are_the_same_where_order_needs_no_clock(real, trained, config):
    executed = real.execute(config, {"source": "executed"})
    simulated = simulate(trace_workload(trained[2], config), config, lambda *_: 1000, {})
    for column in SEQUENCE_COLUMNS:
        assert np.array_equal(executed.batches[column], simulated.batches[column]), column
    assert executed.header["largest_output_difference"] < 1e-4
    if config.k is None:  # at another k the later layers see other inputs than when the trace was recorded
        assert executed.header["gate_disagreements"] == 0


def test_poisson_arrivals_are_stamped_when_due_and_every_output_is_right(real, trained):
    config = RunConfig(queue_size=4, arrivals="poisson", rate_per_s=2000.0, sequences=150, seed=5, timeout_ns=3_000_000)
    executed = real.execute(config, {})
    simulated = simulate(trace_workload(trained[2], config), config, lambda *_: 1000, {})
    assert np.array_equal(executed.passes["arrival_ns"], simulated.passes["arrival_ns"])
    assert executed.header["lateness_ns"]["wake_ups"] > 0
    busy_until = np.maximum.accumulate(executed.batches["end_ns"])[:-1]
    assert (executed.batches["start_ns"][1:] >= busy_until).all()  # one batch in flight
    assert executed.batches["size"].max() <= 4


@pytest.mark.parametrize("scheduler", ["queues", "lockstep"])
def test_an_execution_plays_every_step_of_every_round_in_the_order_that_the_simulation_has(trained, blobs, scheduler):
    model, _, trace = trained
    real = ClassifierOnWeights(model, trace, torch.from_numpy(blobs.test_NF), blobs.test_label_N)
    config = RunConfig(scheduler=scheduler, arrivals="closed", in_flight=4, sequences=12)
    workload = trace_workload(trace, config)
    executor = Executor(workload, config, real.new_blocks(workload, config))
    rounds = rounds_of(executor.replay)
    executor.run()
    assert len(rounds) > len(executor.replay.recording.batches) > 0
    assert all(names == list(STEPS) for names in rounds)


class ScriptedClock:
    """Stands in for `time` in the executor: every reading of the clock is 100 ns after the last."""

    def __init__(self):
        self.ticks = itertools.count(0, 100)

    def perf_counter_ns(self):
        return next(self.ticks)

    def sleep(self, seconds):
        raise AssertionError("nothing to wait for")


def test_whole_log_of_a_scripted_run(trained, blobs, monkeypatch):
    """One pass in flight, two passes, B = 1: a batch starts where the one before ended, one reading a completion."""
    model, _, trace = trained
    clock = ScriptedClock()
    monkeypatch.setattr("moe_replay.collect.execution.executor.time", clock)
    real = ClassifierOnWeights(model, trace, torch.from_numpy(blobs.test_NF), blobs.test_label_N)
    records = real.execute(RunConfig(arrivals="closed", in_flight=1, sequences=2), {})
    per_pass = [(0, 0), (0, 1), (0, 1), (1, 0), (1, 1), (1, 1), (2, 0)]
    kinds = [
        (layer, min(block, 1)) for layer, block in zip(records.batches["layer"], records.batches["block"], strict=True)
    ]
    assert kinds == per_pass * 2
    assert records.batches["end_ns"].tolist() == list(range(100, 1500, 100))
    assert records.batches["start_ns"].tolist() == list(range(0, 1400, 100))
    assert records.passes["arrival_ns"].tolist() == [0, 700]
    assert records.passes["end_ns"].tolist() == [700, 1400]


def test_what_fell_due_while_a_batch_ran_is_played_at_its_own_moment(trained):
    """The device is busy 0..1000; arrivals at 300 and 600 queue at those moments, and the batch binds both at 1000."""
    _, _, trace = trained
    config = RunConfig(queue_size=2, arrivals="poisson", rate_per_s=1e6, sequences=4, seed=1)
    workload = trace_workload(trace, config)

    blocks = SimpleNamespace(masked=False, device=torch.device("cpu"))  # none of them runs
    executor = Executor(workload, config, blocks)
    arrivals = executor.replay.arrivals
    arrivals._plan(np.array([0, 0, 300, 600]), np.arange(4))
    executor.replay.play(0)
    batch, executor.bound = executor.bound, None
    retired = executor.replay.rules.retire(batch)
    batch.end_ns = 1000
    executor._play_due_before(1000)
    assert executor.bound is None  # the device was taken at 300 and 600
    executor.replay.play(1000, [(batch, retired)])
    assert executor.replay.recording.arrival_ns_P == [0, 0, 300, 600]
    assert (executor.bound.layer, executor.bound.block, executor.bound.members) == (0, 0, [2, 3])
    assert executor.bound.ready_ns == 600
    assert executor.bound.start_ns == 1000


def test_a_lost_or_misrouted_token_is_found(trained, blobs):
    model, _, trace = trained
    images_TF = torch.from_numpy(blobs.test_NF)
    experts_TLK = trace.experts_TLK[:, :, :2]
    expected_TC = plain_forward(model, images_TF, experts_TLK)
    wrong = experts_TLK.copy()
    wrong[7, 1] = trace.experts_TLK[7, 1, 4:6]
    with pytest.raises(RuntimeError, match="differ from the plain forward pass: 0 missing"):
        check_outputs(plain_forward(model, images_TF, wrong), expected_TC)
    lost = expected_TC.clone()
    lost[3] = torch.nan
    with pytest.raises(RuntimeError, match="1 missing"):
        check_outputs(lost, expected_TC)
    assert check_outputs(expected_TC.clone(), expected_TC) == 0


def test_blocks_count_where_the_live_gate_disagrees(trained, blobs):
    model, _, trace = trained
    images_TF = torch.from_numpy(blobs.test_NF)
    other = np.ascontiguousarray(trace.experts_TLK[:, :, 4:6])
    blocks = ClassifierBlocks(model, images_TF, other)
    blocks.run(0, 0, [0, 1, 2])
    assert blocks.disagreements == 6


def test_what_cannot_be_executed_is_refused(trained, blobs):
    model, _, trace = trained
    bare = Classifier(CONFIGURATIONS["one-layer"], torch.zeros(3072), torch.ones(3072), 10, 0)
    with pytest.raises(InputError, match="one-layer"):
        ClassifierBlocks(bare, torch.zeros(1, 3072), np.zeros((1, 1, 4), np.int16))
    with pytest.raises(InputError, match=r"sequence 149, allowed 0\.\.99"):
        ClassifierOnWeights(model, trace, torch.from_numpy(blobs.test_NF[:100]), blobs.test_label_N)
    real = ClassifierOnWeights(model, trace, torch.from_numpy(blobs.test_NF), blobs.test_label_N)
    with pytest.raises(InputError, match="devices is 2, allowed 1"):
        real.execute(replace(CLOSED, devices=2), {})
