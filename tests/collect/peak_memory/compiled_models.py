"""Small models whose steps are compiled, and what has to be there to compile them."""

import copy
import os
import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

CPU = torch.device("cpu")

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++")),
    reason="inductor needs a C++ compiler on a CPU: apt-get install g++",
)


class Layers(nn.Module):
    """Checkpointed layers with a concatenation and matrix products, and a buffer that is counted up."""

    def __init__(self, layers=2, width=32):
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        self.up = nn.ParameterList(torch.randn(width, 2 * width, generator=draws) / width for _ in range(layers))
        self.down = nn.ParameterList(torch.randn(2 * width, width, generator=draws) / width for _ in range(layers))
        self.register_buffer("steps", torch.zeros(()))

    def layer(self, x_NM, up, down):
        halves = (x_NM @ up).chunk(2, 1)
        return x_NM + torch.cat([halves[0].relu(), halves[1].tanh()], 1) @ down

    def forward(self, x_NM):
        self.steps.add_(1)
        for up, down in zip(self.up, self.down, strict=True):
            x_NM = checkpoint(self.layer, x_NM, up, down, use_reentrant=False)
        return x_NM


def loss_of(model, x_NM, target_NM):
    """The loss of all models here."""
    return functional.mse_loss(model(x_NM), target_NM)


def batch_of(rows, width=32, seed=1):
    """A batch of random rows and targets."""
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(rows, width, generator=draws), torch.randn(rows, width, generator=draws)


def adam(model):
    """Adam as eager runs it, one parameter after another."""
    return torch.optim.Adam(model.parameters(), lr=1e-2, foreach=False)


def eager_steps(model, build, batches, rates=None):
    """A copy of a model after torch's own steps, and its optimizer."""
    model = copy.deepcopy(model)
    optimizer = build(model)
    for step, batch in enumerate(batches):
        if rates:
            optimizer.param_groups[0]["lr"] = rates[step]
        loss_of(model, *batch).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model, optimizer


def farthest(first, second):
    """The largest difference between two models' parameters and buffers."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return max((one - other).abs().max().item() for one, other in pairs)
