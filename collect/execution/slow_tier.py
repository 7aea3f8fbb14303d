"""The slow tier: every expert's weights in host memory, and one thread that copies them to slots, in order.

On a GPU host memory is pinned and a copy runs on a stream of its own: it takes what it takes. On a CPU everything lies
in the same memory, so a copy is *paced*: it is not done before latency + bytes / bandwidth have passed. The copying
thread sleeps meanwhile, so that the thread that computes is not disturbed; how late it wakes up is part of what a
transfer takes.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from moe_replay.simulate.policies.memory.host_link import Transfer

NOMINAL = {"cpu": (0.25e9, 100_000), "cuda": (64e9, 10_000)}  # bytes/s and ns: a pace, and a PCIe 5 x16 link as sold


@dataclass(frozen=True)
class Pace:
    """What a paced copy takes at least: `latency_ns`, and its bytes at `bytes_per_s`."""

    latency_ns: int
    bytes_per_s: float

    def least_ns(self, size_bytes: int) -> int:
        """Return the shortest time of one copy."""
        return self.latency_ns + round(size_bytes / self.bytes_per_s * 1e9)


class Copied(NamedTuple):
    """A copy that is done: when it began and when it was whole, readings of `time.perf_counter_ns`."""

    transfer: Transfer
    start_ns: int
    end_ns: int


class Copier:
    """Copies rows of the slow tier to rows of the slots, one after another in the order of `copy`, in its own thread.

    `source_KF` [keys, floats] and `target_SF` [slots, floats] are the memories. `done` holds finished copies in order.
    Use it as a context manager: the thread ends with it.
    """

    def __init__(self, source_KF: torch.Tensor, target_SF: torch.Tensor, pace: Pace | None) -> None:
        self.source_KF, self.target_SF, self.pace = source_KF, target_SF, pace
        self.on_gpu = target_SF.device.type == "cuda"
        self.asked: queue.SimpleQueue = queue.SimpleQueue()
        self.done: deque[Copied] = deque()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Copier:
        self.thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.asked.put(None)
        self.thread.join()

    def copy(self, transfer: Transfer, row: int) -> None:
        """Ask for an expert's weights to be copied to a row of the slots."""
        self.asked.put((transfer, row))

    def first(self) -> Copied | None:
        """Return the oldest finished copy that was not taken off `done`; RuntimeError if the thread has failed."""
        if self.failure is not None:
            raise RuntimeError(f"the copying thread failed: {self.failure}") from self.failure
        return self.done[0] if self.done else None

    def _work(self) -> None:
        try:
            stream = torch.cuda.Stream(self.target_SF.device) if self.on_gpu else None
            while (asked := self.asked.get()) is not None:
                transfer, row = asked
                start_ns = time.perf_counter_ns()
                self._copy_row(transfer.key, row, stream)
                self.done.append(Copied(transfer, start_ns, self._paced(start_ns)))
        except BaseException as error:  # the thread that computes raises it
            self.failure = error

    def _copy_row(self, key: int, row: int, stream: torch.cuda.Stream | None) -> None:
        if stream is None:
            self.target_SF[row].copy_(self.source_KF[key])
            return
        with torch.cuda.stream(stream):
            self.target_SF[row].copy_(self.source_KF[key], non_blocking=True)
        stream.synchronize()

    def _paced(self, start_ns: int) -> int:
        """Sleep until a copy that began at `start_ns` has taken its time; return when it was whole."""
        if self.pace is not None:
            size_bytes = self.source_KF.shape[1] * self.source_KF.element_size()
            left_ns = start_ns + self.pace.least_ns(size_bytes) - time.perf_counter_ns()
            if left_ns > 0:
                time.sleep(left_ns / 1e9)
        return time.perf_counter_ns()


def link_fields(device: torch.device, bytes_per_s: float | None, latency_ns: int | None, expert_bytes: int) -> dict:
    """Return the fields of a MemoryConfig that say what a transfer takes; None means the device's own."""
    nominal_bytes_per_s, nominal_ns = NOMINAL[device.type]
    return {
        "link_latency_ns": nominal_ns if latency_ns is None else latency_ns,
        "link_bytes_per_s": nominal_bytes_per_s if bytes_per_s is None else bytes_per_s, "expert_bytes": expert_bytes,
    }  # fmt: skip


PACKED: WeakKeyDictionary[nn.Module, tuple[tuple, torch.Tensor]] = WeakKeyDictionary()  # by a model's first experts


def packed_once(experts_L: Sequence[nn.Module], pinned: bool) -> torch.Tensor:
    """Return what `pack` does; a model's runs share one copy for as long as its weights stay as they are.

    Pinning gigabytes takes seconds, and a run only reads them.
    """
    state = pinned, tuple((stack.data_ptr(), stack._version) for experts in experts_L for stack in experts.stacks)
    kept = PACKED.get(experts_L[0])
    if kept is None or kept[0] != state:
        PACKED.pop(experts_L[0], None)  # its memory goes back before as much is asked for
        kept = PACKED[experts_L[0]] = state, pack(experts_L, pinned)
    return kept[1]


@torch.no_grad()
def pack(experts_L: Sequence[nn.Module], pinned: bool) -> torch.Tensor:
    """Return the weights of all experts, layer after layer, one row each: [L * E, values], in host memory.

    Every tensor is copied straight to its place, from wherever it lies.
    """
    first = experts_L[0].stacks
    values, keys = sum(stack[0].numel() for stack in first), sum(map(len, experts_L))
    packed_KF = torch.empty((keys, values), dtype=first[0].dtype, pin_memory=pinned)
    rows = iter(packed_KF)
    for experts in experts_L:
        for tensors in zip(*experts.stacks, strict=True):
            begin, row_F = 0, next(rows)
            for tensor in tensors:
                row_F[begin : begin + tensor.numel()].copy_(tensor.reshape(-1))
                begin += tensor.numel()
    return packed_KF
