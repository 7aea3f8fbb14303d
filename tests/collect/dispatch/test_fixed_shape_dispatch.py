"""Dispatch of fixed shapes against static dispatch with masks: outputs, gradients, drops and empty slots."""

import pytest
import torch

from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.dispatch.fixed_shape_dispatch import FixedShapeDispatch, places
from moe_replay.collect.dispatch.static_dispatch import StaticDispatch
from moe_replay.collect.models.experts import Experts


def test_places_by_hand():
    """Two rows per expert. Expert 0 is asked for by tokens 1, 2 first and by 0 second: no room for the last."""
    experts_NK = torch.tensor([[1, 0], [0, -1], [0, 1]])
    assert places(experts_NK, 2, 2).tolist() == [[2, 4], [0, 4], [1, 3]]


@pytest.mark.parametrize("capacity", ["CSk/E:1", "CSk/E:0.6", "CS:0.1", "CS:1"])
@pytest.mark.parametrize(("tokens", "experts", "k"), [(1, 2, 1), (24, 3, 2), (40, 6, 3)])
def test_it_computes_what_static_dispatch_does(tokens, experts, k, capacity):
    draws = torch.Generator().manual_seed(tokens)
    layer = Experts(experts, 5, 7, 4, draws)
    x_NM = torch.randn(tokens, 5, generator=draws, requires_grad=True)
    experts_NK = torch.rand(tokens, experts, generator=draws).topk(k, 1).indices
    experts_NK[torch.rand(tokens, k, generator=draws) < 0.2] = -1
    weights_NK = torch.rand(tokens, k, generator=draws).masked_fill(experts_NK < 0, 0).requires_grad_()
    found = []
    for dispatch in (StaticDispatch, FixedShapeDispatch):
        output_NO = dispatch(Capacity.parse(capacity))(x_NM, weights_NK, experts_NK, layer)
        leaves = [x_NM, weights_NK, *layer.parameters()]
        found.append([output_NO, *torch.autograd.grad(output_NO.square().sum(), leaves)])
    for expected, own in zip(*found, strict=True):
        assert torch.allclose(own, expected, atol=1e-5)
