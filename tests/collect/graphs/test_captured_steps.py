"""Captured iterations: bytes predicted are bytes held and allocated, and every order gives eager's bits."""

import pytest
import torch
from own_steps import CPU, Awkward, awkward_subject, random_order
from torch import nn

from moe_replay.collect.graphs.captured_step import capture
from moe_replay.collect.graphs.eager_step import run_eager
from moe_replay.collect.graphs.ordered_execution import run_in_order
from moe_replay.collect.graphs.step_cases import StepCase
from moe_replay.collect.graphs.step_optimizers import optimizer_rule
from moe_replay.collect.graphs.step_state import StepState
from moe_replay.collect.graphs.step_subjects import ModelSizes, Subject
from moe_replay.simulate.ordering.order_policies import order
from moe_replay.traces.errors import InputError

SMALL = ModelSizes(layers=2, experts=3, k=2, width=16, hidden=24, window=8)
CASES = [
    StepCase("classifier", 32, "layer", "adam", "static", sizes=SMALL),
    StepCase("classifier", 32, "selective", "sgd", separate_experts=True, sizes=SMALL),
    StepCase("vit", 4, "layer", "sgd", sizes=SMALL),
    StepCase("vit", 4, "selective", "none", "static", sizes=SMALL),
    StepCase("language", 4, "layer", "adam", sizes=SMALL),
]


def check(captured, seeds=(0,)):
    """Hold the captured order, a greedy one and random ones to what was predicted and to eager."""
    graph = captured.graph
    orders = [range(graph.N), order(graph, "lpmf").order_N, *(random_order(graph, seed) for seed in seeds)]
    peaks = []
    for each in orders:
        found = captured.measure(each)
        assert found["differs"] is None
        assert found["counted"] == found["predicted"]
        assert found["allocated"] == pytest.approx(found["predicted"], rel=1e-3)
        peaks.append(found["predicted"])
    assert len(set(peaks)) > 1  # orders that all need the same would prove nothing


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_order_needs_what_is_predicted_and_gives_eagers_bits(case):
    captured = case.capture(CPU, 0)
    check(captured)
    phases = {0, 2} | ({1} if case.checkpoint != "none" else set()) | ({3} if case.optimizer != "none" else set())
    assert set(captured.graph.phase_N.tolist()) == phases
    assert captured.eager.peak > 0


def test_a_graph_does_not_depend_on_what_was_drawn_before():
    subject = CASES[3].subject(0)  # its routing, and so its sizes, depend on jitter
    sizes = []
    for seed in range(8):
        torch.manual_seed(seed)
        sizes.append(capture(subject, "none", CPU, 0, "jitter", {}).graph.bytes_S.tolist())
    assert all(each == sizes[0] for each in sizes)


def test_dropout_buffers_views_and_tied_parameters_are_as_eager_has_them():
    captured = capture(awkward_subject(), "adam", CPU, 5, "awkward", {})
    check(captured, range(6))
    drawn = [node for node in captured.program.operations if "drawn_from" in node.meta]
    assert len(drawn) == 4  # two layers, forward and again
    assert not torch.equal(captured.state.tensors["buffers"]["norm.running_mean"], torch.zeros(16))


def test_what_is_computed_again_uses_the_weights_of_the_run_not_those_of_the_capture():
    subject, rule = awkward_subject(), optimizer_rule("sgd")
    captured = capture(subject, "sgd", CPU, 5, "awkward", {})
    tensors = {kind: {name: each.clone() for name, each in named.items()}
               for kind, named in captured.state.tensors.items()}  # fmt: skip
    tensors["parameters"]["inner.weight"] += 0.25
    other = StepState(tensors, captured.state.steps, captured.state.seed)
    ran = run_in_order(captured.program, other, range(captured.graph.N))
    assert run_eager(subject, rule, other).state.differs_from(ran.state) is None
    assert captured.eager.state.differs_from(ran.state) == "parameters inner.weight"


class Tiny(nn.Module):
    """a = w x; b = sin(a); a *= 2; a + b."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.full((8,), 0.5))

    def forward(self, x):
        with torch.no_grad():
            a = self.w * x
            b = a.sin()
            a.view(2, 4).mul_(2)
            c = a + b
        return (self.w * c).sum()


def test_storages_and_edges_of_a_tiny_iteration_by_hand():
    x = torch.arange(8.0)
    captured = capture(Subject("tiny", Tiny(), lambda model, x: model(x), (x,)), "sgd", CPU, 0, "tiny", {})
    graph = captured.graph
    kinds = ["mul", "sin", "mul_", "add", "mul", "sum", "ones_like", "mul", "add_"]
    assert [kind.split(".")[1] for kind in graph.kinds_N] == kinds
    rows = list(zip(graph.bytes_S.tolist(), graph.producer_S.tolist(), graph.kept_S.tolist(), strict=True))
    # a, b, c, w c, the loss, one, the gradient: views (the view of a, expanded ones) have no storage
    assert rows == [(32, 0, False), (32, 1, False), (32, 3, False), (32, 4, False), (4, 5, True), (4, 6, False),
                    (32, 7, False)]  # fmt: skip
    users = [graph.users(storage).tolist() for storage in range(graph.S)]
    assert users == [[1, 2, 3], [3], [4, 7], [5], [6], [7], [8]]
    # sin before a is doubled, doubled before it is added
    assert graph.edge_E2.tolist() == [[1, 2], [2, 3]]  # operation 4 before 8 follows: 5, 6 and 7 are between them
    assert {graph.phase_N[place] for place in (6, 7)} == {2}
    assert captured.measure(range(graph.N))["counted"] == 32 * 3


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda model, x: model(x).sum() * float(x.sum().item() > 0), "reads a number out of a tensor"),
        (lambda model, x: model(x), "grad can be implicitly created only for scalar outputs"),
    ],
)
def test_a_model_that_no_graph_can_hold_is_refused_in_a_line(loss, said):
    with pytest.raises((InputError, RuntimeError), match=said):
        capture(Subject("mine", Awkward(), loss, (torch.randn(12, 16),)), "none", CPU, 0, "mine", {})
