"""Layer stacks of published shapes: sizes, blocks equal to the plain forward pass, calibration, executions."""

import numpy as np
import pytest
import torch

from moe_replay.collect.execution.calibration import CalibrationPlan, measure_costs
from moe_replay.collect.real_layers.layer_shapes import SHAPES, LayerShape, shape_of
from moe_replay.collect.real_layers.layer_stack import LayerStack, StackConfig
from moe_replay.collect.real_layers.layer_stack_blocks import LayerStackCalibration, LayerStackOnWeights
from moe_replay.simulate.config.memory_config import MemoryConfig
from moe_replay.simulate.config.run_config import RunConfig
from moe_replay.traces.errors import InputError
from moe_replay.traces.synthetic import SyntheticSpec, synthetic_trace

SHAPE = LayerShape("tiny", 16, 24, 4, 2)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stack():
    return LayerStack(StackConfig(SHAPE, layers=2), CPU)


@pytest.mark.parametrize(
    ("name", "megabytes"),  # of bfloat16 weights, by hand: 3 * width * hidden * 2
    [
        ("mixtral-8x7b", 352.3),
        ("qwen3-30b-a3b", 9.4),
        ("deepseek-v2-lite", 17.3),
        ("gpt-oss-20b", 49.8),
        ("olmoe", 12.6),
    ],
)
def test_published_shapes_have_the_bytes_of_their_models(name, megabytes):
    assert round(SHAPES[name].expert_bytes(torch.bfloat16) / 1e6, 1) == megabytes


def test_scaled_shapes_keep_experts_and_say_so():
    small = shape_of("gpt-oss-20b", 16)
    assert (small.name, small.width, small.hidden, small.experts, small.k) == ("gpt-oss-20b-by-16", 176, 176, 32, 4)
    assert shape_of("olmoe") == SHAPES["olmoe"]
    for wrong in (("gpt-oss", 1), ("olmoe", 0)):
        with pytest.raises(InputError, match=r"known|allowed"):
            shape_of(*wrong)


def test_stack_bytes_are_those_of_its_weights(stack):
    assert stack.experts[0].expert_bytes == SHAPE.expert_bytes(torch.bfloat16) == 3 * 16 * 24 * 2


@pytest.fixture(scope="module")
def weighted(stack):
    return LayerStackOnWeights(stack, drawn_trace(layers=2))


def drawn_trace(layers):
    spec = SyntheticSpec(layers=layers, experts=4, k=2, sequences=12, prompt=(3, 3), decode=(4, 4))
    return synthetic_trace(spec, np.random.default_rng(3)).trace


@pytest.mark.parametrize(
    "config",
    [
        RunConfig(queue_size=4, arrivals="closed", in_flight=8, seed=1),
        RunConfig(scheduler="lockstep", max_step=8, arrivals="closed", in_flight=8, seed=1),
        RunConfig(
            arrivals="closed", in_flight=1,
            memory=MemoryConfig(slots=2, expert_bytes=SHAPE.expert_bytes(torch.bfloat16), link_bytes_per_s=1e9),
        ),
    ],
    ids=["queues", "lockstep", "expert memory"],
)  # fmt: skip
def test_executions_equal_the_plain_forward_pass(weighted, config):
    records = weighted.execute(config, {})
    assert (records.passes["end_ns"] >= 0).all()
    assert records.header["gate_disagreements"] == 0
    assert records.header["quality"] == {}


def test_an_expert_that_is_taken_for_another_is_noticed(weighted, monkeypatch):
    """The tolerance of bfloat16 is narrow enough to tell experts apart."""
    swapped = [weighted.model.experts[1].runners()[expert ^ 1] for expert in range(SHAPE.experts)]
    monkeypatch.setattr(weighted.model.experts[1], "runners", lambda: swapped)
    with pytest.raises(RuntimeError, match="differ"):
        weighted.execute(RunConfig(queue_size=4, arrivals="closed", in_flight=8), {})


def test_traces_of_other_sizes_are_refused(stack):
    with pytest.raises(InputError, match=r"\(3, 4\), allowed \(2, 4\)"):
        LayerStackOnWeights(stack, drawn_trace(layers=3))


def test_costs_are_measured_for_every_block(stack):
    about = {"device": "here", "model": stack.config.about()}
    table = measure_costs(LayerStackCalibration(stack), SHAPE.k, CalibrationPlan((1, 5), 2), about)
    assert table.dense_layers == [0, 1, 2]
    assert {size: len(times) for size, times in table.repetitions(0, 1).items()} == {1: 32, 5: 32}
    assert (table.columns["service_ns"] > 0).all()  # how they compare is the machine's business
