"""The pass over inductor's nodes: what it predicts is what the allocator sees, results stay, and it leaves no trace."""

import threading
import warnings

import numpy as np
import pytest
import torch
from compiled_models import CPU, Layers, adam, batch_of, eager_steps, farthest, loss_of, needs_compiler
from torch._inductor import config as inductor_config
from torch._inductor import memory
from torch._inductor.codegen.cpp import CppScheduling

from moe_replay.collect.peak_memory import scheduler_steps
from moe_replay.collect.peak_memory.compiled_step import compile_step
from moe_replay.collect.peak_memory.inductor_pass import peak_memory_pass
from moe_replay.collect.peak_memory.step_measurement import step_peak, step_times
from moe_replay.simulate.ordering.order_result import OrderResult, all_edges, peak_of
from moe_replay.traces.errors import InputError

REPLACED = ((memory, "reorder_for_peak_memory"), (memory, "estimate_peak_memory"), (CppScheduling, "ready_to_flush"))


def in_force():
    """What the pass replaces, as it is now."""
    return [getattr(owner, name) for owner, name in REPLACED] + [inductor_config.fx_graph_cache]


@pytest.fixture(scope="module")
def compiled():
    """A model's step compiled with the pass and taken once; (model, step, batch, report, in force before and after)."""
    model, batch, before = Layers(), batch_of(256), in_force()
    step = compile_step(model, loss_of, adam(model))
    with peak_memory_pass(seconds=2) as report:
        loss = step(*batch)
    return model, step, batch, report, loss, (before, in_force())


@needs_compiler
def test_a_compiled_step_does_what_eager_does(compiled):
    model, _, batch, _, loss, _ = compiled
    assert model.steps == 1
    eager, _ = eager_steps(Layers(), adam, [batch])
    assert torch.allclose(loss, loss_of(Layers(), *batch))
    # Adam's first step is lr times the gradient's sign: where it is next to nothing, rounding decides.
    assert farthest(model, eager) < 1e-4


@needs_compiler
def test_the_report_says_what_the_allocator_sees(compiled):
    _, step, batch, report, _, _ = compiled
    (graph,) = report.graphs
    assert graph.operations > 20
    assert graph.lower_bound <= graph.peak_after < graph.peak_before
    assert graph.estimate_after <= graph.estimate_before
    # What the graph returns, the loss, and the scalars of single kernels are all that may differ.
    assert step_peak(lambda: step(*batch), CPU) == pytest.approx(graph.peak_after, abs=1024)
    assert f"{graph.operations} operations" in str(report)


@needs_compiler
def test_a_step_is_compiled_once_for_each_shape(compiled):
    _, step, batch, _, _, _ = compiled
    assert len(step.compiled) == 1
    step(*batch)
    assert len(step.compiled) == 1
    assert step.key(batch) != step.key(batch_of(128))


@needs_compiler
def test_times_of_steps_are_taken_in_turns(compiled):
    _, step, batch, _, _, _ = compiled
    times = step_times({"one": lambda: step(*batch), "nothing": lambda: None}, CPU, rounds=3)
    assert times["one"].wall_ms > times["nothing"].wall_ms
    assert times["one"].rounds == 3


@needs_compiler
def test_all_is_as_before_after_the_pass(compiled):
    before, after = compiled[-1]
    assert before == after == in_force()


@pytest.fixture
def unbuilt(monkeypatch):
    """Kernels that are not compiled and do nothing: for what is decided before."""
    kernel = lambda *ignored, **also: lambda *arguments: None  # noqa: E731
    monkeypatch.setattr("torch._inductor.async_compile.AsyncCompile.cpp_pybinding", kernel)


def worse_than(graph, seed):
    """An order of a graph with a higher peak than the captured one."""
    captured = peak_of(graph, np.arange(graph.N))
    for place in range(seed, seed + 200):
        found = random_order(graph, place)
        if peak_of(graph, found) > captured:
            return found
    raise AssertionError("no worse order among 200")


def random_order(graph, seed):
    """A random order of a graph's operations."""
    draws, left = np.random.default_rng(seed), {place: set() for place in range(graph.N)}
    for before, after in all_edges(graph).tolist():
        left[after].add(before)
    order = []
    while left:
        free = [place for place, waits in left.items() if not waits & left.keys()]
        order.append(int(draws.choice(free)))
        del left[order[-1]]
    return np.array(order, np.int32)


def test_an_order_that_inductor_counts_as_worse_is_not_taken(unbuilt, monkeypatch):
    """The search is made to return a worse one, on both counts: inductor's own order stays, and is what runs."""
    asked = []

    def worse(graph, policy, seconds, seed):
        asked.append(graph)
        return OrderResult(worse_than(graph, seed), 0, 0, policy)

    monkeypatch.setattr(scheduler_steps, "order", worse)
    model = Layers(layers=1)
    with peak_memory_pass(seconds=1) as report:
        compile_step(model, loss_of, adam(model))(*batch_of(64))
    (graph,) = report.graphs
    assert graph.by == "inductor"
    assert graph.estimate_after == graph.estimate_before
    assert graph.peak_after <= graph.peak_before
    # The second graph holds inductor's own count: its captured order's peak is the estimate.
    assert peak_of(asked[1], np.arange(asked[1].N)) == graph.estimate_before
    assert len(asked) == 2


def test_backward_passes_are_ordered_too_and_given_back_what_they_free(unbuilt):
    """torch.compile's two graphs: what forward saves is a storage from the start of backward's."""
    torch.compiler.reset()
    model, batch = Layers(), batch_of(64)
    loss = torch.compile(lambda *batch: loss_of(model, *batch))
    with peak_memory_pass(seconds=1) as report:
        loss(*batch).backward()
    assert len(report.graphs) == 2
    for graph in report.graphs:
        assert graph.lower_bound <= graph.peak_after <= graph.peak_before
        assert graph.proved or graph.peak_after > graph.lower_bound
    # At least the saved inputs of both layers are there when backward begins.
    assert report.graphs[1].lower_bound >= 2 * 64 * 32 * 4
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with peak_memory_pass() as report:
            loss(*batch)
    assert not report.graphs
    assert any("nothing was compiled inside" in str(each.message) for each in told)


def fail_if(replaced):
    """Raise an error of a kind that nothing else here raises."""
    if replaced:
        raise ZeroDivisionError


def test_all_is_as_before_after_an_error():
    before = in_force()
    with pytest.raises(ZeroDivisionError), peak_memory_pass():
        fail_if(in_force() != before and not inductor_config.fx_graph_cache)
    assert in_force() == before
    with pytest.warns(UserWarning, match="nothing was compiled inside"), peak_memory_pass():
        pass  # another may be entered now


@pytest.mark.filterwarnings("ignore:peak_memory_pass")
def test_one_pass_at_a_time():
    found = []
    with peak_memory_pass():
        found.append(refusal())
        other = threading.Thread(target=lambda: found.append(refusal()))
        other.start()
        other.join()
    assert ["another one is active" in each for each in found] == [True, True]
    assert not refusal()


def refusal():
    """What entering the pass says now, or nothing."""
    try:
        with peak_memory_pass():
            return ""
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("version", ["2.12.1", "2.14.0", "2.130.0", "3.0"])
def test_another_torch_is_refused(version, monkeypatch):
    monkeypatch.setattr(torch, "__version__", version)
    assert f"torch is {version}, allowed 2.13" in refusal()
    model = Layers()
    with pytest.raises(InputError, match=f"torch is {version}"):
        compile_step(model, loss_of, adam(model))


def test_another_process_that_compiles_is_refused(monkeypatch):
    from torch._inductor import compile_fx

    monkeypatch.setattr(compile_fx, "fx_compile_mode", compile_fx.FxCompileMode.SUBPROCESS)
    before = in_force()
    assert "compile mode is SUBPROCESS" in refusal()
    assert in_force() == before


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_a_budget_is_a_number_of_seconds(seconds):
    with pytest.raises(InputError, match="seconds = "), peak_memory_pass(seconds=seconds):
        pass
