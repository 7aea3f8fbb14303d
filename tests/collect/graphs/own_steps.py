"""Models with the things that captured graphs get wrong, and random orders to run them in."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from moe_replay.collect.graphs.step_subjects import Subject

CPU = torch.device("cpu")


class Awkward(nn.Module):
    """Dropout and a buffer inside a checkpoint, in-place work on views, tied, unused and frozen parameters."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.inner, self.norm = nn.Linear(16, 16), nn.BatchNorm1d(16)
        self.tied = self.inner
        self.unused, self.frozen = nn.Parameter(torch.ones(5)), nn.Parameter(torch.ones(16), requires_grad=False)

    def layer(self, x):
        hidden = self.norm(self.inner(x))
        left, right = functional.dropout(hidden, 0.3, self.training).chunk(2, 1)
        return torch.cat([left.sigmoid(), right.tanh()], 1) * self.frozen

    def forward(self, x):
        for _ in range(2):
            x = x + checkpoint(self.layer, x, use_reentrant=False)
        y = x.clone()
        y[:, :4].mul_(2)  # a view is written while others read the whole
        return self.tied(y).relu_() + x


def awkward_subject(batch=12):
    """The awkward model as a user's function returns it."""
    x = torch.randn(batch, 16, generator=torch.Generator().manual_seed(0))
    return Subject("awkward", Awkward(), lambda model, x: model(x).square().mean(), (x,))


def random_order(graph, seed):
    """An order drawn at random among those that keep the graph's edges."""
    draws = np.random.default_rng(seed)
    before = [set() for _ in range(graph.N)]
    for storage, producer in enumerate(graph.producer_S.tolist()):
        for user in graph.users(storage).tolist():
            before[user].add(producer)
    for first, second in graph.edge_E2.tolist():
        before[second].add(first)
    order, ready = [], [place for place in range(graph.N) if not before[place]]
    after = [[] for _ in range(graph.N)]
    for place, firsts in enumerate(before):
        for first in firsts:
            after[first].append(place)
    while ready:
        place = ready.pop(draws.integers(len(ready)))
        order.append(place)
        for later in after[place]:
            before[later].discard(place)
            if not before[later]:
                ready.append(later)
    return order
