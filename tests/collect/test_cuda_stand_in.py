"""The stand-in for CUDA tells what a GPU would refuse, and the project's GPU branches run on it."""

import numpy as np
import pytest
import torch
from cuda_stand_in import NAME, Event, Stream

from moe_replay.collect.devices import device_name, on_device, pick_device, synchronise
from moe_replay.collect.execution.slow_tier import Copier, pack
from moe_replay.collect.models.experts import Experts
from moe_replay.collect.studies.allocation import CudaAllocation, allocation_on
from moe_replay.simulate.policies.memory.host_link import Transfer


def test_a_tensor_lies_where_it_was_made_or_moved(cuda):
    host, there = torch.ones(3), torch.ones(3, device="cuda")
    assert (host.device.type, there.device.type, there.is_cuda) == ("cpu", "cuda", True)
    moved = host.to("cuda")
    assert (moved.device.type, host.device.type) == ("cuda", "cpu")
    assert (moved + there).device.type == "cuda"
    assert moved[torch.tensor([0, 1])].device.type == "cuda"
    assert moved.cpu().device.type == "cpu"
    assert torch.zeros_like(moved).device.type == moved.new_zeros(2).device.type == "cuda"
    np.testing.assert_array_equal((moved + there).cpu().numpy(), 2)


def test_what_a_gpu_refuses_is_refused(cuda):
    host, there = torch.ones(3), torch.ones(3, device="cuda")
    with pytest.raises(RuntimeError, match="same device"):
        host + there
    with pytest.raises(TypeError, match="convert cuda"):
        there.numpy()
    with pytest.raises(RuntimeError, match="dense CPU"):
        there.pin_memory()
    with pytest.raises(RuntimeError, match="enable_timing"):
        Event().elapsed_time(Event())
    assert (there * torch.tensor(2.0)).device.type == "cuda"  # a number is taken from the host


def test_modules_train_there(cuda):
    model = torch.nn.Linear(4, 2).to(torch.device("cuda"))
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    before = model.weight.detach().cpu().clone()
    model(torch.ones(3, 4, device="cuda")).sum().backward()
    optimizer.step()
    assert model.weight.device.type == model.weight.grad.device.type == "cuda"
    assert not torch.equal(before, model.weight.detach().cpu())


def test_the_allocator_counts_what_lives_there(cuda):
    device = pick_device("cuda")
    with allocation_on(device) as allocation:
        assert isinstance(allocation, CudaAllocation)
        kept = torch.zeros(300, device=device)
        assert allocation.allocated() == 1536  # 1,200 bytes, rounded up
        torch.zeros(1000, device=device)
        assert (allocation.allocated(), allocation.peak()) == (1536, 1536 + 4096)
        allocation.reset_peak()
        assert allocation.peak() == 1536
        del kept
        assert allocation.allocated() == 0


def test_devices_are_named_and_waited_for(cuda):
    device = pick_device("auto")
    assert (device.type, device_name(device)) == ("cuda", NAME.lower().replace(" ", "-"))
    synchronise(device)
    assert on_device(np.arange(3), device).device.type == "cuda"


def test_experts_are_copied_from_pinned_memory_on_a_stream_of_their_own(cuda):
    device = pick_device("cuda")
    experts = Experts(2, 4, 4, 4, torch.Generator().manual_seed(0)).to(device)
    source = pack([experts], pinned=True)
    assert source.is_pinned()
    assert source.device.type == "cpu"
    target = torch.zeros(2, source.shape[1], device=device)
    streams = Stream.made
    with Copier(source, target, None) as copier:
        copier.copy(Transfer(0, key=1, slot=0, victim=-1, prefetch=False, asked_ns=0), 0)
    assert Stream.made == streams + 1
    assert torch.equal(target[0].cpu(), source[1])
    assert copier.first() is not None
