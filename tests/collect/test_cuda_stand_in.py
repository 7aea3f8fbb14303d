"""The stand-in for CUDA itself: it leads into the branches of a GPU, and away from them afterwards."""

import torch
from cuda_stand_in import cuda_stand_in

from collect.allocation import CudaAllocation, allocation_on
from collect.devices import device_name, pick_device, synchronise
from collect.expert_memory.slow_tier import Copier
from simulate.policies.memory.links import Transfer


def test_tensors_say_that_they_lie_on_a_gpu_until_it_is_left(monkeypatch):
    with cuda_stand_in(monkeypatch) as calls:
        where = pick_device("auto")
        assert where.type == "cuda"
        assert device_name(where) == "stand-in-gpu-1gb"
        generator = torch.Generator(where).manual_seed(3)
        x_NM = torch.randn((3, 4), device=where, generator=generator)
        assert x_NM.device.type == "cuda"
        assert x_NM.is_cuda
        assert torch.nn.Linear(4, 2, device=where)(x_NM.to("cuda", torch.float32)).shape == (3, 2)
        host = torch.empty(8, dtype=torch.uint8, pin_memory=True)
        assert host.pin_memory().shape == (8,)
        synchronise(where)
        assert calls["pinned"] == 2
        assert calls["synchronised"] == 1
    assert not torch.cuda.is_available()
    assert torch.zeros(1).device.type == "cpu"


def test_events_and_the_allocator_count(monkeypatch):
    with cuda_stand_in(monkeypatch):
        where = pick_device("cuda")
        begun, ended = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begun.record()
        with allocation_on(where) as allocation:
            assert isinstance(allocation, CudaAllocation)
            kept = torch.zeros(1000, device=where)
            del kept
            kept = torch.zeros(10, device=where)
            assert (allocation.allocated(), allocation.peak()) == (kept.nbytes, 4000)
        ended.record()
        assert begun.elapsed_time(ended) > 0


def test_the_copier_takes_the_way_of_a_gpu(monkeypatch):
    with cuda_stand_in(monkeypatch) as calls:
        source, target = torch.arange(6.0).reshape(3, 2), torch.zeros(2, 2, device="cuda")
        with Copier(source, target, None) as copier:
            copier.copy(Transfer(0, 2, 1, -1, False, 0), 1)
            while copier.first() is None:
                pass
        assert calls["streams"] == 1
        assert target[1].tolist() == [4.0, 5.0]
