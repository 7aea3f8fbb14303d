"""Captured iterations on a GPU, as far as the stand-in shows it: its allocator is asked, whatever the order."""

import torch
from cuda_stand_in import DEVICE, stand_in_for_cuda
from own_steps import random_order

from moe_replay.collect.graphs import captured_step
from moe_replay.collect.graphs.allocator_watch import CudaWatch, watch_on
from moe_replay.collect.graphs.step_cases import StepCase
from moe_replay.collect.graphs.step_subjects import ModelSizes
from moe_replay.collect.graphs.step_tracing import trace_step


def traced_there(subject, rule, state):
    """A traced graph whose new tensors are made on the stand-in: tracing sees that it is the host's memory."""
    traced = trace_step(subject, rule, state)
    for node in traced.graph.nodes:
        if "device" in node.kwargs:
            node.update_kwarg("device", DEVICE)
    return traced


def test_the_gpus_allocator_says_what_was_predicted(monkeypatch):
    monkeypatch.setattr(captured_step, "trace_step", traced_there)
    sizes = ModelSizes(layers=1, experts=2, k=1, width=16, hidden=16)
    with stand_in_for_cuda() as cuda:
        captured = StepCase("vit", 4, "layer", "adam", sizes=sizes).capture(DEVICE, 0)
        for order in (range(captured.graph.N), random_order(captured.graph, 0)):
            found = captured.measure(order)
            assert found["differs"] is None
            # kernels' scratch space, which the stand-in does not see, is no part of this graph
            assert found["allocated"] == found["counted"] == found["predicted"]
            assert not captured.graph.work_N.any()
        assert captured.graph.notes["device"] == "cuda"
        assert cuda.calls["synchronize"] > 4
        assert captured.eager.peak >= found["predicted"] / 2


def test_marks_on_a_gpu_need_what_runs_within_them():
    with stand_in_for_cuda():
        before = torch.empty(100, device=DEVICE)
        with watch_on(DEVICE) as watch:
            kept = torch.empty(50, device=DEVICE)
            with watch.mark(7):
                first = torch.empty(200, device=DEVICE)
                del first
                second = torch.empty(100, device=DEVICE)
            del second
            more = torch.empty(60, device=DEVICE)
        assert isinstance(watch, CudaWatch)
        assert watch.needs == {7: 800}
        assert watch.peak == 1000
        assert len(before) + len(kept) + len(more) == 210
