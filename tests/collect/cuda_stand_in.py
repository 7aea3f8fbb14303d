"""A stand-in for CUDA on a CPU: tensors that say they are on a GPU, compute on the CPU, and mix with none of the host.

Within `stand_in_for_cuda()` a tensor made with `device="cuda"`, moved there, or computed from one that is there says
`device.type == "cuda"`. As on a GPU, what is there has no `numpy()`, and one computation takes no tensors of both
memories. Streams, events, pinned memory and the allocator's statistics are there too; copies are synchronous. The
mode is the thread's that entered it: other threads see plain CPU tensors, which is enough for copies. What it cannot
show: kernels that a GPU lacks, asynchronous errors, and times.
"""

import contextlib
import time
import types
import weakref
from collections import Counter
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "NVIDIA Stand-In"
ROUNDED_TO = 512  # bytes, as CUDA's allocator does
MEMORY_BYTES = 80 << 30
DEVICE = torch.device("cuda", 0)
HOST = torch.device("cpu")
MOVES = {torch.Tensor.to, torch.Tensor.cuda, torch.Tensor.cpu, torch.as_tensor, torch.asarray}
NO_ARRAY = {torch.Tensor.numpy, torch.Tensor.__array__}
# These take tensors of both memories: copies, indices that lie on the host, and what only asks or assigns.
MIXED = {
    torch.Tensor.copy_, torch.Tensor.__getitem__, torch.Tensor.__setitem__, torch.Tensor.data.__set__,
    torch.Tensor.grad.__set__, torch.Tensor.to, torch.Tensor.type_as, torch.Tensor.set_,
    torch._has_compatible_shallow_copy_type,
}  # fmt: skip


class Memory:
    """Which storages lie on the stand-in's device, the allocator's statistics about them, and what was called.

    `calls` counts calls of `torch.cuda` by name, and `pinned` and `non_blocking` of any operation.
    """

    def __init__(self, total_bytes):
        self.total_bytes, self.calls = total_bytes, Counter()
        self.held = weakref.WeakSet()
        self.alive, self.peak, self.pinned = 0, 0, weakref.WeakSet()
        self.requested, self.requested_peak = 0, 0  # the same before it is rounded up

    def has(self, tensor):
        """Say whether a tensor lies on the device."""
        return tensor.untyped_storage() in self.held

    def take(self, tensor):
        """Let a tensor lie on the device."""
        storage = tensor.untyped_storage()
        if storage not in self.held:
            self.held.add(storage)
            asked = storage.nbytes()
            size = -(-asked // ROUNDED_TO) * ROUNDED_TO
            self.count(size, asked)
            weakref.finalize(storage, self.count, -size, -asked)

    def count(self, size, asked):
        """Count bytes that were allocated and asked for, or freed where negative."""
        self.alive += size
        self.peak = max(self.peak, self.alive)
        self.requested += asked
        self.requested_peak = max(self.requested_peak, self.requested)


class StandIn(TorchFunctionMode):
    """Follows every call of torch from Python: where its tensors lie, and where the result lies then."""

    def __init__(self, memory):
        super().__init__()
        self.memory = memory

    def __torch_function__(self, func, kinds, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        pinned = kwargs.pop("pin_memory", False)
        self.memory.calls.update(pinned=bool(pinned), non_blocking=bool(kwargs.get("non_blocking")))
        if func in (torch.device, torch._C._nn._parse_to):  # no tensors: devices are what they say
            return func(*args, **kwargs)
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        there = [self.memory.has(tensor) for tensor in tensors]
        if func in (torch.Tensor.device.__get__, torch.Tensor.is_cuda.__get__):
            return answered(func, there[0])
        if func in (torch.Tensor.pin_memory, torch.Tensor.is_pinned):
            return self.pinned(func, tensors[0], there[0])
        if func in NO_ARRAY and there[0]:
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")
        if func not in MIXED and any(there) and not all(self.memory.has(each) or not each.dim() for each in tensors):
            raise RuntimeError(f"{func.__name__}: expected all tensors to be on the same device, found cuda:0 and cpu")
        asked = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.device)]
        asked += [torch.device(word) for word in (kwargs.get("device"), *args[1:2]) if is_device(word)]
        if func is torch.Tensor.cuda:
            func, args, kwargs, asked = torch.Tensor.to, (args[0], HOST), {}, [DEVICE]
        elif func is torch.Tensor.cpu:
            asked = [HOST]
        on_cpu = tree_map(
            lambda leaf: HOST if isinstance(leaf, torch.device) or is_device(leaf) else leaf, (args, kwargs)
        )
        result = func(*on_cpu[0], **on_cpu[1])
        if not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(result)):
            return result  # as it is: a size is a tuple that can do more
        if pinned:
            self.memory.pinned.add(result.untyped_storage())
        wanted = asked[-1].type == "cuda" if asked else lies_there(func, there)
        return tree_map(lambda leaf: self.placed(leaf, func, tensors, wanted), result)

    def placed(self, leaf, func, tensors, wanted):
        """Return a result where it was wanted; what shares memory with an argument stays where that is."""
        if not isinstance(leaf, torch.Tensor):
            return leaf
        shared = any(leaf.untyped_storage() is tensor.untyped_storage() for tensor in tensors)
        if shared and func in MOVES and self.memory.has(leaf) != wanted:
            leaf, shared = leaf.clone(), False
        if wanted and not shared:
            self.memory.take(leaf)
        return leaf

    def pinned(self, func, tensor, is_there):
        """Pin a tensor of the host, or say whether it is pinned."""
        if func is torch.Tensor.is_pinned:
            return tensor.untyped_storage() in self.memory.pinned
        if is_there:
            raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        copied = tensor.clone()
        self.memory.calls["pinned"] += 1
        self.memory.pinned.add(copied.untyped_storage())
        return copied


def lies_there(func, there):
    """Say whether a result that was asked for on no device lies where tensors of the device went in."""
    if func in (torch.Tensor.tolist, torch.Tensor.item):
        return False
    return bool(there) and (there[0] if func in MIXED else any(there))


def is_device(word):
    """Say whether an argument is the name of a device."""
    return isinstance(word, str) and word.partition(":")[0] in ("cuda", "cpu")


def answered(func, is_there):
    """Return what a tensor says of its device."""
    if func == torch.Tensor.is_cuda.__get__:
        return is_there
    return DEVICE if is_there else HOST


class Generator(torch.Generator):
    """A generator that is made for the device and draws on the CPU."""

    def __new__(cls, device="cpu"):
        """Return one of the CPU."""
        return super().__new__(cls, "cpu")


class Stream:
    """A stream whose work is done when it is asked for. `made` counts them."""

    made = 0

    def __init__(self, device=None, priority=0):
        Stream.made += 1
        self.device = DEVICE

    def synchronize(self):
        """Wait for nothing."""

    def wait_stream(self, other):
        """Wait for nothing."""

    def wait_event(self, event):
        """Wait for nothing."""

    def record_event(self, event=None):
        """Return a recorded event."""
        event = event or Event(enable_timing=True)
        event.record(self)
        return event

    def query(self):
        """All is done."""
        return True


class Event:
    """An event that knows when it was recorded; as on a GPU, times need `enable_timing`. `made` counts them."""

    made = 0

    def __init__(self, enable_timing=False, blocking=False, interprocess=False):
        Event.made += 1
        self.timed, self.ns = enable_timing, None

    def record(self, stream=None):
        """Note the time."""
        self.ns = time.perf_counter_ns()

    def synchronize(self):
        """Wait for nothing."""

    def wait(self, stream=None):
        """Wait for nothing."""

    def query(self):
        """All is done."""
        return True

    def elapsed_time(self, other):
        """Return the milliseconds until another event."""
        if not (self.timed and other.timed) or None in (self.ns, other.ns):
            raise RuntimeError("both events must be recorded, with enable_timing, before elapsed_time")
        return (other.ns - self.ns) / 1e6


def functions(memory):
    """Return what replaces functions of `torch.cuda`."""

    def reset(device=None):
        memory.peak, memory.requested_peak = memory.alive, memory.requested

    def stats(device=None):
        return {f"requested_bytes.all.{name}": value for name, value in
                (("current", memory.requested), ("peak", memory.requested_peak))}  # fmt: skip

    total = memory.total_bytes
    properties = types.SimpleNamespace(name=NAME, total_memory=total, multi_processor_count=132, major=9, minor=0)
    current = Stream()
    return {
        "is_available": lambda: True, "device_count": lambda: 1, "current_device": lambda: 0,
        "get_device_name": lambda device=None: NAME, "get_device_properties": lambda device=None: properties,
        "get_device_capability": lambda device=None: (9, 0), "is_bf16_supported": lambda *_: True,
        "synchronize": lambda device=None: None, "set_device": lambda device: None, "empty_cache": lambda: None,
        "Stream": Stream, "Event": Event, "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": lambda device=None: current, "default_stream": lambda device=None: current,
        "memory_allocated": lambda device=None: memory.alive, "max_memory_allocated": lambda device=None: memory.peak,
        "memory_reserved": lambda device=None: memory.alive, "max_memory_reserved": lambda device=None: memory.peak,
        "memory_stats": stats, "get_rng_state": lambda device=None: torch.zeros(1), 
        "set_rng_state": lambda state, device=None: None,
        "reset_peak_memory_stats": reset, "mem_get_info": lambda device=None: (total - memory.alive, total),
        "manual_seed": lambda seed: None, "manual_seed_all": lambda seed: None,
        "get_rng_state_all": lambda: [], "set_rng_state_all": lambda states: None,
    }  # fmt: skip


def counted(memory, name, function):
    """Return a function that is counted under its name; a class stays one, so that its kind can be asked for."""
    if isinstance(function, type):
        return function

    def called(*args, **kwargs):
        memory.calls[name] += 1
        return function(*args, **kwargs)

    return called


@contextlib.contextmanager
def stand_in_for_cuda(total_bytes=MEMORY_BYTES):
    """Let a CUDA device of so much memory be there for this thread; yields the `Memory` of it."""
    memory = Memory(total_bytes)
    replaced = functions(memory)
    Stream.made = Event.made = 0
    with contextlib.ExitStack() as stack:
        for name, value in replaced.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, counted(memory, name, value)))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(StandIn(memory))
        yield memory
