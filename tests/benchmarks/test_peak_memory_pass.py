"""Inductor with the pass beside stock inductor: measured peaks as predicted and below their bars, times alike.

Compiling takes some minutes. Times are taken in turns and compared as process time; results are compared bit by bit.
"""

import copy
import sys
from pathlib import Path
from unittest import mock

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "collect" / "peak_memory"))

from compiled_models import CPU, needs_compiler

from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.dispatch.dynamic_dispatch import gathered_dispatch
from moe_replay.collect.dispatch.fixed_shape_dispatch import FixedShapeDispatch
from moe_replay.collect.gates.switch import Switch
from moe_replay.collect.graphs.checkpointing import layer_run
from moe_replay.collect.graphs.eager_step import run_eager, warmed_state
from moe_replay.collect.graphs.step_optimizers import optimizer_rule
from moe_replay.collect.graphs.step_state import same_bits
from moe_replay.collect.graphs.step_subjects import Handling, ModelSizes, own_subject
from moe_replay.collect.graphs.step_tracing import trace_step
from moe_replay.collect.peak_memory.inductor_pass import peak_memory_pass
from moe_replay.collect.peak_memory.step_measurement import step_peak, step_times

pytestmark = [needs_compiler, pytest.mark.timeout(1800)]
ROUNDS = 40


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)
    torch.compiler.reset()


def compared(stock, ours, report, name):
    """Print and return (stock's peak, ours), both measured: ours as predicted, and times alike."""
    peaks = step_peak(stock, CPU), step_peak(ours, CPU)
    times = step_times({"stock": stock, "pass": ours}, CPU, ROUNDS)
    print(f"\n{name}: {peaks[0] / 1e6:.3f} -> {peaks[1] / 1e6:.3f} MB\n{report}\n{times}")
    assert peaks[1] == pytest.approx(max(graph.peak_after for graph in report.graphs), rel=0.001)
    assert times["pass"].process_ms < 1.05 * times["stock"].process_ms
    return peaks


def test_a_classifiers_whole_iteration():
    """2 layers, 512 images, a checkpoint per layer, Adam; routing is fixed as it was traced."""
    how = Handling(layer_run("layer"), gathered_dispatch)
    subject = own_subject("classifier", ModelSizes(layers=2, experts=4, k=2), 512, 0, how)
    rule = optimizer_rule("adam")
    state = warmed_state(subject, rule, CPU, 0)
    assert run_eager(subject, rule, state).peak == pytest.approx(6.14e6, rel=0.01)
    traced, flats = trace_step(subject, rule, state), [state.copied().flat for _ in range(2)]
    with torch.no_grad():
        stock = torch._inductor.compile(copy.deepcopy(traced), flats[0])
        with peak_memory_pass(seconds=10) as report:
            ours = torch._inductor.compile(traced, flats[1])
    stock_peak, peak = compared(lambda: stock(*flats[0]), lambda: ours(*flats[1]), report, "classifier")
    assert peak <= 5.4e6 < stock_peak
    assert all(same_bits(*pair) for pair in zip(*flats, strict=True))


def test_a_switch_transformers_forward_and_backward_pass():
    """2 layers, 64 images, a checkpoint per layer; the bar is 5 % below stock."""
    how = Handling(layer_run("layer"), FixedShapeDispatch(Capacity.parse("CSk/E:1.25")))
    subject = own_subject("vit", ModelSizes(layers=2, experts=4), 64, 0, how)
    for module in subject.model.modules():
        if isinstance(module, Switch):
            module.jitter = 0.0
    models = [subject.model, copy.deepcopy(subject.model)]
    # Two functions, each with code of its own: torch keeps what it compiled by the code, and would run it for both.
    compiled = (
        torch.compile(lambda *batch: subject.loss(models[0], *batch), fullgraph=True),
        torch.compile(lambda *batch: subject.loss(models[1], *batch), fullgraph=True),
    )
    steps = [gradients_of(each, model, subject.batch) for each, model in zip(compiled, models, strict=True)]
    steps[0]()
    with peak_memory_pass(seconds=10) as report:
        steps[1]()
    stock_peak, peak = compared(*steps, report, "switch ViT")
    assert peak < 6.15 / 6.48 * stock_peak
    found = [[each.clone() for each in step(keep=True)] for step in steps]
    assert all(same_bits(*pair) for pair in zip(*found, strict=True))


def gradients_of(compiled, model, batch):
    """A step of torch.compile's: forward and backward pass, whose gradients it returns or drops."""

    def step(keep=False):
        compiled(*batch).backward()
        found = [each.grad for each in model.parameters()] if keep else None
        model.zero_grad(set_to_none=True)
        return found

    return step


def test_two_checkpointed_traversals_of_shared_blocks():
    """The pattern of pytorch's issue 193193, small; predicted alone: kernels are not compiled.

    Six decoder blocks with a memory, gone through twice, a checkpoint around each. Bar: 17 MB where stock has 35.85.
    """
    torch.manual_seed(0)
    blocks = nn.ModuleList(
        nn.TransformerDecoderLayer(128, 4, 512, dropout=0.0, batch_first=True, norm_first=True) for _ in range(6)
    )
    embedding, head = nn.Embedding(256, 128), nn.Linear(128, 256)

    @torch.compile(fullgraph=True)
    def loss(bytes_BT, next_BT):
        memory_BTM = embedding(bytes_BT)
        ends = []
        for start_BTM in (memory_BTM, memory_BTM.roll(1, 0)):
            x_BTM = start_BTM
            for block in blocks:
                x_BTM = checkpoint(block, x_BTM, memory_BTM, use_reentrant=False)
            ends.append(x_BTM)
        return functional.cross_entropy(head(sum(ends)).flatten(0, 1), next_BT.flatten())

    kernel = mock.Mock(return_value=None)  # does nothing when it is called
    unbuilt = mock.patch("torch._inductor.async_compile.AsyncCompile.cpp_pybinding", return_value=kernel)
    with unbuilt, peak_memory_pass(seconds=60) as report:
        loss(torch.randint(256, (8, 64)), torch.randint(256, (8, 64))).backward()
    backward = report.graphs[-1]
    print(f"\nshared blocks: {report}\nestimates {backward.estimate_before} -> {backward.estimate_after}")
    assert backward.peak_after <= 17 / 35.85 * backward.peak_before
    assert backward.estimate_after <= 17 / 35.85 * backward.estimate_before
