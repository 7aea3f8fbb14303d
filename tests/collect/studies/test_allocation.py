"""Counted bytes against a count by hand, the profiler's record, and CUDA's allocator where there is one."""

import gc

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.profiler import ProfilerActivity, profile

from moe_replay.collect.dispatch.capacity import CONVENTIONS, Capacity
from moe_replay.collect.dispatch.dynamic_dispatch import dynamic_dispatch, gathered_dispatch
from moe_replay.collect.dispatch.footprint import LayerSizes, dynamic_peak_bytes, gathered_peak_bytes, static_peak_bytes
from moe_replay.collect.dispatch.static_dispatch import StaticDispatch
from moe_replay.collect.models.experts import Experts
from moe_replay.collect.studies.allocation import CudaAllocation, StorageAllocation, allocation_on

CPU = torch.device("cpu")


def counted(work, device=CPU):
    """Return (bytes of the result, peak) of a piece of work."""
    with torch.no_grad(), allocation_on(device) as allocation:
        result = work()
        assert result is not None
        return allocation.allocated(), allocation.peak()


def profiled(work):
    """Return the same from the profiler's record of every call of the CPU allocator, kernels' own calls included."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        result = work()
        assert result is not None
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return alive, most


def random_layer(tokens, experts, k, width=24, hidden=40, outputs=16, empty=0.2, device=CPU):
    generator = torch.Generator().manual_seed(tokens + experts)
    layer = Experts(experts, width, hidden, outputs, generator).to(device)
    experts_NK = torch.rand(tokens, experts, generator=generator).argsort(1)[:, :k]
    experts_NK[torch.rand(tokens, k, generator=generator) < empty] = -1
    x_NM, weights_NK = torch.rand(tokens, width, generator=generator), torch.rand(tokens, k, generator=generator)
    return x_NM.to(device), weights_NK.to(device), experts_NK.contiguous().to(device), layer


def views_and_writes(x):
    y = x * 2  # 4,000 bytes
    z = y.view(10, 100)
    z += 1
    del y  # z keeps the storage
    both = torch.cat([z, z])  # 8,000 more
    del z  # 8,000 in all
    bytes_only = both > 0  # 2,000 more
    return both[:1], bytes_only.sum()  # a view keeps 8,000; the sum has 8


def grow(x):
    y = torch.empty(10)
    y.resize_(1000)  # its storage now has 4,000 bytes
    y.zero_()
    return y[:1]


@pytest.mark.parametrize(
    ("work", "expected"),
    [(views_and_writes, (8008, 12_000)), (grow, (4000, 4000)), (lambda x: x.view(10, 100)[0], (0, 0))],
)
def test_programs_counted_by_hand(work, expected):
    x = torch.ones(1000)
    assert counted(lambda: work(x)) == expected


def test_the_peak_can_be_forgotten_and_what_is_freed_is_gone():
    with StorageAllocation() as allocation:
        big = torch.zeros(1000)
        del big
        kept = torch.zeros(10)
        assert (allocation.allocated(), allocation.peak()) == (40, 4000)
        allocation.reset_peak()
        assert allocation.peak() == 40
    del kept
    gc.collect()
    assert allocation.allocated() == 0


def dispatches(layer):
    """Yield (dispatch, its peak counted by hand) for a layer."""
    _, _, experts_NK, experts = layer
    load = torch.bincount(experts_NK.flatten() + 1, minlength=len(experts) + 1)[1:].tolist()
    sizes = LayerSizes(
        *experts_NK.shape[:1], len(experts), experts_NK.shape[1], *experts.w1_EMH.shape[1:], experts.outputs
    )
    yield dynamic_dispatch, dynamic_peak_bytes(sizes, load)
    yield gathered_dispatch, gathered_peak_bytes(sizes, load)
    for capacity in ("CS:1", "CS/E:1", "CSk/E:1.25"):
        static = StaticDispatch(Capacity.parse(capacity))
        slots = static.slots(experts_NK, len(experts))
        yield static, static_peak_bytes(sizes, slots, sum(load) - static.dropped(experts_NK, len(experts)))


@pytest.mark.parametrize("shape", [(50, 4, 2), (64, 16, 1), (33, 5, 3)])
def test_every_dispatch_allocates_what_was_counted_by_hand_and_what_the_profiler_saw(shape):
    layer = random_layer(*shape)
    for dispatch, expected in dispatches(layer):
        found = counted(lambda dispatch=dispatch: dispatch(*layer))
        assert found == (4 * shape[0] * 16, expected), dispatch
        assert profiled(lambda dispatch=dispatch: dispatch(*layer)) == found, dispatch


@given(
    st.integers(1, 80), st.integers(1, 12), st.integers(1, 4), st.sampled_from(sorted(CONVENTIONS)),
    st.floats(0.05, 3),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_dynamic_never_allocates_more_than_static_where_static_drops_nothing(tokens, experts, k, convention, factor):
    """By the counts that the test above holds to the allocator, for tokens with an expert each; with drops, or where
    most tokens have no expert at all, it need not be true (next tests)."""
    k = min(k, experts)
    _, _, experts_NK, _ = random_layer(tokens, experts, k)
    experts_NK[:, 0].clamp_min_(0)
    static = StaticDispatch(Capacity(convention, factor))
    assume(not static.dropped(experts_NK, experts))
    load = torch.bincount(experts_NK.flatten() + 1, minlength=experts + 1)[1:].tolist()
    sizes = LayerSizes(tokens, experts, k, 24, 40, 24)
    assert dynamic_peak_bytes(sizes, load) <= static_peak_bytes(sizes, static.slots(experts_NK, experts), sum(load))


def test_where_most_tokens_have_no_expert_static_can_allocate_less():
    """One of 40 tokens has an expert: dynamic holds the whole result while the expert runs, static only its one row."""
    x_NM, weights_NK, experts_NK, experts = random_layer(40, 1, 1)
    layer = (x_NM, weights_NK, torch.full_like(experts_NK, -1).index_fill(0, torch.tensor([0]), 0), experts)
    static = StaticDispatch(Capacity("CS", 0.02))
    assert static.dropped(layer[2], 1) == 0
    assert counted(lambda: static(*layer))[1] < counted(lambda: dynamic_dispatch(*layer))[1]


def test_static_that_drops_nearly_everything_can_allocate_less():
    """One row for 40 tokens that all want the same expert: static computes 4 rows, dynamic 40."""
    x_NM, weights_NK, _, experts = random_layer(40, 4, 1)
    layer = (x_NM, weights_NK, torch.zeros(40, 1, dtype=torch.int64), experts)
    static = StaticDispatch(Capacity("CS", 0.02))
    assert static.dropped(layer[2], 4) == 39
    assert counted(lambda: static(*layer))[1] < counted(lambda: dynamic_dispatch(*layer))[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("tokens", [512, 2048])
def test_counted_storages_agree_with_the_allocator_of_cuda(tokens):
    """The allocator rounds every tensor up to 512 bytes; some tens of tensors are alive at the peak."""
    device = torch.device("cuda")
    layer = random_layer(tokens, 16, 2, 128, 256, 128, device=device)
    for dispatch, _ in dispatches(layer):
        with torch.no_grad():
            dispatch(*layer)  # the matrix library takes its workspace now
        told = counted(lambda dispatch=dispatch: dispatch(*layer), device)
        with torch.no_grad(), StorageAllocation() as allocation:
            result = dispatch(*layer)
            assert 0 <= told[0] - allocation.allocated() <= 512 * 40
            assert 0 <= told[1] - allocation.peak() <= 512 * 40
        assert len(result) == tokens
    assert isinstance(allocation_on(device), CudaAllocation)
