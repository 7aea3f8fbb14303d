"""How many bytes of device memory a piece of work allocates: one interface, from CUDA's allocator or counted on a CPU.

Both count from the moment of entering: weights and inputs that were in memory before are not counted.
"""

import weakref
from typing import Any, Protocol, Self

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from moe_replay.collect.devices import synchronise


class Allocation(Protocol):
    """A context manager that knows what was allocated within it."""

    def __enter__(self) -> Self:
        """Begin at zero bytes."""

    def __exit__(self, *error: object) -> None:
        """Stop counting."""

    def allocated(self) -> int:
        """Return the bytes that are alive now."""

    def peak(self) -> int:
        """Return the most bytes that were alive at once since entering or `reset_peak`."""

    def reset_peak(self) -> None:
        """Forget the peak: it is what is alive now."""


def allocation_on(device: torch.device) -> Allocation:
    """Return what counts allocations on a device."""
    return CudaAllocation(device) if device.type == "cuda" else StorageAllocation()


class CudaAllocation:
    """What CUDA's caching allocator says, less what it said on entering. It rounds every tensor up to 512 bytes."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.before = device, 0

    def __enter__(self) -> Self:
        self.reset_peak()
        self.before = torch.cuda.memory_allocated(self.device)
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def allocated(self) -> int:
        """Return the bytes that are alive now."""
        return torch.cuda.memory_allocated(self.device) - self.before

    def peak(self) -> int:
        """Return the most bytes that were alive at once since entering or `reset_peak`."""
        return torch.cuda.max_memory_allocated(self.device) - self.before

    def reset_peak(self) -> None:
        """Forget the peak: it is what is alive now."""
        synchronise(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)


class StorageAllocation(TorchDispatchMode):
    """Follows every storage that a torch operation returns, from the operation that makes it until it is freed.

    A storage counts once, at its own size, however many views it has and however often it is written to; one that is
    first seen as an operation's argument was there before and does not count. What a kernel allocates for itself and
    frees before it returns is not seen (for the operations of a dispatch that is a sort's scratch space at most).
    """

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}  # by serial number of the storage
        self.known: weakref.WeakKeyDictionary[torch.UntypedStorage, int | None] = weakref.WeakKeyDictionary()
        self.alive, self.most, self.serial = 0, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        for storage in storages_of((args, kwargs)):
            self.known.setdefault(storage, None)
        result = func(*args, **(kwargs or {}))
        for storage in storages_of(result):
            self.follow(storage)
        return result

    def follow(self, storage: torch.UntypedStorage) -> None:
        """Count a storage that is new, or that has grown or shrunk since it was seen."""
        if storage not in self.known:
            self.serial += 1
            self.known[storage] = self.serial
            weakref.finalize(storage, self.resize, self.serial, 0)
        if (serial := self.known[storage]) is not None:
            self.resize(serial, storage.nbytes())

    def resize(self, serial: int, size: int) -> None:
        """Note the size of a storage; 0 when it is freed."""
        self.alive += size - self.sizes.pop(serial, 0)
        if size:
            self.sizes[serial] = size
        self.most = max(self.most, self.alive)

    def allocated(self) -> int:
        """Return the bytes that are alive now."""
        return self.alive

    def peak(self) -> int:
        """Return the most bytes that were alive at once since entering or `reset_peak`."""
        return self.most

    def reset_peak(self) -> None:
        """Forget the peak: it is what is alive now."""
        self.most = self.alive


def storages_of(values: object) -> list[torch.UntypedStorage]:
    """Return the storages of all tensors in nested arguments."""
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, torch.Tensor)]
