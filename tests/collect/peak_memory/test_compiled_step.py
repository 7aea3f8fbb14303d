"""Whole iterations as graphs: the same steps as torch's optimizers take, and refusals of what no graph can hold."""

import copy
import re

import pytest
import torch
from compiled_models import Layers, adam, batch_of, eager_steps, farthest, loss_of
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from moe_replay.collect.dispatch.capacity import Capacity
from moe_replay.collect.dispatch.fixed_shape_dispatch import FixedShapeDispatch
from moe_replay.collect.graphs.checkpointing import layer_run
from moe_replay.collect.graphs.step_subjects import Handling, ModelSizes, own_subject
from moe_replay.collect.peak_memory.compiled_step import compile_step
from moe_replay.traces.errors import InputError


def uncompiled(step):
    """A step whose graph is run as it was traced, operation by operation, in the place of compiled code."""
    step.compile = step.iteration.trace
    return step


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (torch.optim.SGD, {}),
        (torch.optim.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
        (torch.optim.SGD, {"momentum": 0.9, "maximize": True}),
        (torch.optim.Adam, {"weight_decay": 0.1, "amsgrad": True}),
        (torch.optim.AdamW, {"betas": (0.8, 0.95), "foreach": True}),
        (torch.optim.Adam, {"fused": True}),
    ],
)
def test_a_traced_optimizer_takes_torchs_steps(kind, settings):
    """Five steps on batches of two sizes, the learning rate another in each of them."""
    rates = [0.01, 0.02, 0.005, 0.01, 0.03]
    batches = [batch_of(12 + 4 * (place % 2), seed=place) for place in range(5)]

    def build(model):
        return kind(model.parameters(), lr=1, **settings)

    expected, other = eager_steps(Layers(), build, batches, rates)
    model = Layers()
    optimizer = build(model)
    step = uncompiled(compile_step(model, loss_of, optimizer))
    for rate, batch in zip(rates, batches, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        step(*batch)
    assert len(step.compiled) == 2
    assert farthest(model, expected) < 2e-5
    assert farthest(model, Layers()) > 0.01
    own, eager = optimizer.state_dict()["state"], other.state_dict()["state"]
    for place, state in eager.items():
        for name, tensor in state.items():
            if tensor is not None:
                assert torch.allclose(own[place][name], tensor, rtol=1e-3, atol=1e-5), name
    # torch can go on from here by itself.
    loss_of(model, *batches[0]).backward()
    optimizer.step()


def test_groups_frozen_unused_and_tied_parameters():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(32, 32), nn.Linear(32, 32)
            self.again = self.first
            self.unused, self.frozen = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(32), requires_grad=False)

        def forward(self, x_NM):
            return self.again(self.second(self.first(x_NM)).relu()) * self.frozen

    def build(model):
        groups = [{"params": [model.first.weight, model.unused, model.frozen]}, {"params": model.second.parameters()}]
        groups[1]["lr"], groups[1]["momentum"] = 0.2, 0.5
        return torch.optim.SGD(groups, lr=0.1)  # the biases of `first` are in no group: they stay

    model = Odd()
    expected, _ = eager_steps(model, build, [batch_of(8)] * 3)
    step = uncompiled(compile_step(model, loss_of, build(model)))
    for _ in range(3):
        step(*batch_of(8))
    assert farthest(model, expected) < 1e-6
    assert torch.equal(model.unused, torch.ones(3))


def test_a_model_of_experts_trains_as_eager_does():
    how = Handling(layer_run("layer"), FixedShapeDispatch(Capacity.parse("CSk/E:1")))
    subject = own_subject("classifier", ModelSizes(layers=2, experts=4, width=16, hidden=16), 32, 0, how)
    eager = copy.deepcopy(subject.model)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (eager, subject.model)]
    step = uncompiled(compile_step(subject.model, subject.loss, optimizers[1]))
    for _ in range(3):
        loss = subject.loss(eager, *subject.batch)
        loss.backward()
        optimizers[0].step()
        optimizers[0].zero_grad()
        assert torch.allclose(step(*subject.batch), loss)
    assert farthest(eager, subject.model) < 1e-5


class Linear(nn.Module):
    """One layer, and what it does with its result."""

    def __init__(self, then, **parts):
        super().__init__()
        self.inner, self.then = nn.Linear(32, 32), then
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, x_NM):
        return self.then(self.inner(x_NM))


HELD = torch.ones(32)


@pytest.mark.parametrize(
    ("then", "said"),
    [
        (lambda x: x * x.sum().item(), "reads a value out of a tensor"),
        (lambda x: x[: x[0].long().tolist()[0]], "reads a value out of a tensor"),
        (lambda x: x if x.sum() > 0 else -x, "reads a value out of a tensor"),
        (lambda x: x * torch.bincount(x.argmax(1)).sum(), "aten.bincount.default returns a tensor whose size depends"),
        (lambda x: x[x.sum(1) > 0], "aten.nonzero.default returns a tensor whose size depends"),
        (lambda x: x * HELD, "no parameter, buffer or batch"),
        (lambda x: functional.dropout(x), "draws random numbers"),
        (lambda x: attention(x, 0.1), "bernoulli_.float draws random numbers"),
        (lambda x: x + torch.randn(32), "draws random numbers"),
        (lambda x: checkpoint(torch.relu, x, use_reentrant=True), "use_reentrant=True"),
    ],
)
def test_what_no_graph_can_hold_is_refused_in_one_line(then, said):
    model = Linear(then)
    step = compile_step(model, lambda model, x_NM, _: model(x_NM).square().mean(), adam(model))
    with pytest.raises(InputError, match=re.escape(said)) as refused:
        step(*batch_of(8))
    assert "\n" not in str(refused.value)
    if "reads a value" in said or "depends" in said:
        assert "test_compiled_step.py:" in str(refused.value)  # the line of the model, not of torch


def attention(x_NM, dropout=0.0):
    """Fused self-attention of one head over the rows."""
    heads_11NM = x_NM[None, None]
    return functional.scaled_dot_product_attention(heads_11NM, heads_11NM, heads_11NM, dropout_p=dropout)[0, 0]


@pytest.mark.parametrize(
    "then",
    [
        lambda x: checkpoint(attention, x, use_reentrant=False),
        lambda x: functional.dropout(attention(x), training=False),
        lambda x: torch.native_dropout(x, 0.5, False)[0],
    ],
)
def test_what_might_draw_and_does_not_is_held(then):
    model = Linear(then)
    eager = copy.deepcopy(model)
    step, optimizer = uncompiled(compile_step(model, loss_of, adam(model))), adam(eager)
    step(*batch_of(8))
    loss_of(eager, *batch_of(8)).backward()
    optimizer.step()
    assert farthest(model, eager) < 1e-5


def test_losses_that_are_no_scalar_are_refused():
    model = Layers()
    for loss, said in ((lambda model, x, y: model(x), r"shape \(8, 32\)"), (lambda model, x, y: None, "NoneType")):
        with pytest.raises(InputError, match=said):
            compile_step(model, loss, adam(model))(*batch_of(8))


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")  # it counts calls of `optimizer.step`
def test_a_schedulers_rates_are_followed():
    model, eager = Layers(), Layers()
    steps = {}
    for each in (model, eager):
        optimizer = adam(each)
        step = uncompiled(compile_step(each, loss_of, optimizer)) if each is model else None
        steps[each] = step, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    for _ in range(3):
        steps[model][0](*batch_of(8))
        loss_of(eager, *batch_of(8)).backward()
        steps[eager][1].step()
        steps[eager][1].zero_grad()
        for _, _, scheduler in steps.values():
            scheduler.step()
    assert farthest(model, eager) < 1e-5


def hooked(model):
    model.up[0].register_hook(lambda gradient: gradient)
    return adam(model)


def stepped(model):
    optimizer = adam(model)
    optimizer.register_step_post_hook(lambda *ignored: None)
    return optimizer


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (lambda model: torch.optim.RMSprop(model.parameters()), "optimizer RMSprop, allowed SGD, Adam, AdamW"),
        (lambda model: torch.optim.SGD(Layers().parameters(), lr=0.1), "parameters that are not the model's"),
        (lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5), "dampening"),
        (lambda model: torch.optim.SGD(model.parameters(), lr=0.1, differentiable=True), "differentiable"),
        (hooked, "parameter up.0 has a gradient hook"),
        (stepped, "step hooks"),
    ],
)
def test_optimizers_whose_step_would_be_another_are_refused(build, said):
    model = Layers()
    with pytest.raises(InputError, match=re.escape(said)):
        compile_step(model, loss_of, build(model))


def test_what_changes_between_steps_is_seen():
    model = Layers()
    optimizer = adam(model)
    step = uncompiled(compile_step(model, loss_of, optimizer))
    step(*batch_of(8))
    with pytest.raises(InputError, match=r"batch\[1\] is a int"):
        step(batch_of(8)[0], 3)
    loss_of(model, *batch_of(8)).backward()
    with pytest.raises(InputError, match=r"up\.0 has a gradient"):
        step(*batch_of(8))
    optimizer.zero_grad()
    model.eval()
    step(*batch_of(8))
    assert len(step.compiled) == 2
    optimizer.param_groups[0]["eps"] = 1e-3
    with pytest.raises(InputError, match="settings have changed"):
        step(*batch_of(8))
