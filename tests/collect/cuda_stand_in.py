"""A stand-in for CUDA, so that a CPU runs the branches that only a GPU reaches.

Tensors stay in host memory and say that they lie on a GPU. Streams and events keep the order and the time of the calls,
pinned memory is counted, and the allocator's statistics are those of the storages that torch operations make. What
it cannot show: kernels that a GPU lacks, asynchronous errors, and times.
"""

import time
from collections import Counter
from contextlib import contextmanager
from types import SimpleNamespace

import torch
from torch.overrides import TorchFunctionMode

from moe_replay.collect.real_layers import expert_timing
from moe_replay.collect.studies.allocation import StorageAllocation

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
NAME = "Stand-In GPU 1GB"
MEMORY_BYTES = 2**30


class Stream:
    """A stream whose work is done when it is given."""

    def __init__(self, device=None, priority=0):
        self.device = device

    def synchronize(self):
        """Nothing to wait for."""

    def wait_stream(self, other):
        """Nothing to wait for."""

    def wait_event(self, event):
        """Nothing to wait for, but it has to have been recorded."""
        assert event.at_ns is not None


class Event:
    """An event that reads the clock when it is recorded."""

    def __init__(self, enable_timing=False, blocking=False):
        self.timed, self.at_ns = enable_timing, None

    def record(self, stream=None):
        """Read the clock."""
        self.at_ns = time.perf_counter_ns()

    def synchronize(self):
        """Nothing to wait for."""

    def query(self):
        """It is done when it was recorded."""
        return self.at_ns is not None

    def elapsed_time(self, end):
        """The milliseconds until another event; both must be timed and recorded, as CUDA wants it."""
        assert self.timed
        assert end.timed
        return (end.at_ns - self.at_ns) / 1e6


class OnHost(TorchFunctionMode):
    """Sends what is meant for a GPU to host memory; `calls` counts what a CPU never does."""

    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Run a torch function on host memory."""
        kwargs = dict(kwargs or {})
        if func is torch.device:
            return func(*args, **kwargs)
        if func == torch.Tensor.device.__get__:
            return CUDA
        if func == torch.Tensor.is_cuda.__get__:
            return True
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.pin_memory or kwargs.pop("pin_memory", False):
            self.calls["pinned"] += 1
            if func is torch.Tensor.pin_memory:
                return args[0].clone()
        if kwargs.get("non_blocking"):
            self.calls["non_blocking"] += 1
        return func(*map(on_host, args), **{name: on_host(value) for name, value in kwargs.items()})


class Generator:
    """Makes generators of the CPU, wherever they are asked for."""

    def __new__(cls, device=None, made=torch.Generator):
        return made(CPU)


def on_host(value):
    """Put the CPU where a GPU is named."""
    if isinstance(value, torch.device) and value.type == "cuda":
        return CPU
    return CPU if isinstance(value, str) and value.split(":")[0] == "cuda" else value


@contextmanager
def cuda_stand_in(monkeypatch, memory_bytes=MEMORY_BYTES):
    """Within it there is a GPU; yields a counter of calls: `synchronised`, `pinned`, `non_blocking`, `streams`."""
    calls = Counter()

    def counted(name, result=None):
        return lambda *args, **kwargs: (calls.update([name]), result)[1]

    def new_stream(*args, **kwargs):
        calls["streams"] += 1
        return Stream(*args, **kwargs)

    @contextmanager
    def in_stream(stream):
        yield

    def free_bytes(device=None):
        return memory_bytes - allocation.allocated(), memory_bytes

    with StorageAllocation() as allocation, OnHost(calls), monkeypatch.context() as patch:
        about = SimpleNamespace(name=NAME, total_memory=memory_bytes, multi_processor_count=1, major=9, minor=0)
        for name, stand_in in {
            "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
            "get_device_name": lambda device=None: NAME, "get_device_properties": lambda device=None: about,
            "get_device_capability": lambda device=None: (9, 0), "is_bf16_supported": lambda *_: True,
            "synchronize": counted("synchronised"), "empty_cache": counted("emptied"),
            "Stream": new_stream, "Event": Event, "stream": in_stream, "current_stream": Stream,
            "default_stream": Stream, "mem_get_info": free_bytes,
            "memory_allocated": lambda device=None: allocation.allocated(),
            "max_memory_allocated": lambda device=None: allocation.peak(),
            "reset_peak_memory_stats": lambda device=None: allocation.reset_peak(),
            "get_rng_state_all": lambda: [], "set_rng_state_all": counted("seeded"),
            "manual_seed_all": counted("seeded"), "manual_seed": counted("seeded"),
        }.items():  # fmt: skip
            patch.setattr(torch.cuda, name, stand_in)
        patch.setattr(torch, "Generator", Generator)
        patch.setattr(expert_timing, "FILLER", 8)
        yield calls
