"""The executor's own share of a batch: what of its service time the tensor work does not account for.

The wall clock tells it of every batch. On a CPU the work ends where the block's code ends, on a GPU where the device
is done: what the executor decides while the device runs costs nothing. The rest is choosing a batch, noting its end,
and, with expert slots, how late an expert's arrival was noticed. On a GPU CUDA events enclose the kernels of some
batches beside it: they leave out how long the processor takes to notice the end, and take time themselves, so that
their share is the larger one.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch

PAIRS = 512  # events that are made before a run: making one takes as long as launching several kernels
LEAST_APART = 37  # batches; no multiple of those of a pass, so that all blocks are met
QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}


class WorkMeter:
    """Times the tensor work of batches: `begin()` before a launch, `launched()` behind it, `done()` when it has ended.

    `most_batches`: how many batches there are at most; on a GPU `PAIRS` of them at most are timed by events too.
    """

    def __init__(self, device: torch.device, most_batches: int) -> None:
        self.on_gpu, self.began_ns = device.type == "cuda", 0
        self.took_ns: list[int] = []  # by batch
        self.apart = max(LEAST_APART, most_batches // PAIRS + 1) | 1
        count = -(-most_batches // self.apart) if self.on_gpu else 0
        self.events = [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(count)]
        for event in (event for pair in self.events for event in pair):
            event.record()  # only now does CUDA make it

    def begin(self) -> None:
        """Note the beginning of a batch's work."""
        if self.on_gpu and self._is_timed():
            self.events[len(self.took_ns) // self.apart][0].record()
        self.began_ns = time.perf_counter_ns()

    def launched(self) -> None:
        """Note that all kernels of a batch were launched: on a CPU they are done."""
        if not self.on_gpu:
            self.took_ns.append(time.perf_counter_ns() - self.began_ns)
        elif self._is_timed():
            self.events[len(self.took_ns) // self.apart][1].record()

    def done(self) -> None:
        """Note that the device is done with a batch."""
        if self.on_gpu:
            self.took_ns.append(time.perf_counter_ns() - self.began_ns)

    def _is_timed(self) -> bool:
        return len(self.took_ns) % self.apart == 0

    def summary(self, batches: Mapping[str, np.ndarray]) -> dict:
        """Return what a record's header says: the share over all batches and its quantiles, by size, and by events.

        `batches` are the columns of the run's records, in the order in which the batches ran. Sizes are in
        tokens, in classes of powers of two: `4` means 4 to 7.
        """
        if not self.took_ns:
            return {}
        work_ns, service_ns = np.array(self.took_ns, np.int64), batches["end_ns"] - batches["start_ns"]
        size_class = 2 ** np.floor(np.log2(batches["tokens"])).astype(np.int64)
        shares = 1 - work_ns / np.maximum(service_ns, 1)
        found = {
            "timed_by": "wall clock", **share_of(work_ns, service_ns),
            **{name: round(float(np.quantile(shares, at)), 4) for name, at in QUANTILES.items()},
            "by_size": {
                str(size): share_of(work_ns[size_class == size], service_ns[size_class == size])
                for size in np.unique(size_class)
            },
        }  # fmt: skip
        if self.on_gpu:
            timed = np.arange(0, len(work_ns), self.apart)
            took_ms = [begun.elapsed_time(ended) for begun, ended in self.events[: len(timed)]]
            found["by_events"] = share_of(np.array(took_ms) * 1e6, service_ns[timed])
        return found


def share_of(work_ns: np.ndarray, service_ns: np.ndarray) -> dict:
    """Return how many batches were timed, their mean work and service in ns, and the share that is not work."""
    work, service = float(work_ns.mean()), float(service_ns.mean())
    return {
        "batches": len(work_ns), "work_ns": round(work), "service_ns": round(service),
        "share": round(1 - work / max(service, 1.0), 4),
    }  # fmt: skip
