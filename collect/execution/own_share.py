"""The executor's own share of a batch: what of its service time the tensor work does not account for.

On a CPU the work is timed by the wall clock around it. On a GPU two CUDA events stand around the kernels of every
`EVERY`-th batch, read when the run is over: nothing waits for them, and gaps between kernels count as work. The rest
is choosing a batch, turning its members into an index, noting its end and, on a GPU, waking up.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np
import torch

EVERY = 7  # an event takes a few us to record; no multiple of the batches of a pass, so that all blocks are met
QUANTILES = {"p10": 0.1, "median": 0.5, "p90": 0.9}


class WorkMeter:
    """Times the tensor work of batches, one after another: `begin()` before it was asked for, `end()` behind it."""

    def __init__(self, device: torch.device) -> None:
        self.on_gpu, self.count, self.began_ns = device.type == "cuda", 0, 0
        self.took_ns: list[int] = []  # by batch, on a CPU
        self.events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []  # of every so manyth batch, on a GPU

    def begin(self) -> None:
        """Note the beginning of a batch's work."""
        if not self.on_gpu:
            self.began_ns = time.perf_counter_ns()
        elif self.count % EVERY == 0:
            self.events.append((torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)))
            self.events[-1][0].record()

    def end(self) -> None:
        """Note the end of a batch's work, on a GPU behind its last kernel."""
        if not self.on_gpu:
            self.took_ns.append(time.perf_counter_ns() - self.began_ns)
        elif self.count % EVERY == 0:
            self.events[-1][1].record()
        self.count += 1

    def work_ns(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (numbers of the batches that were timed, what their work took in ns); the device is done with all."""
        if not self.on_gpu:
            return np.arange(self.count), np.array(self.took_ns, np.int64)
        took_ms = [begun.elapsed_time(ended) for begun, ended in self.events]
        return np.arange(len(took_ms)) * EVERY, np.round(np.array(took_ms) * 1e6).astype(np.int64)

    def summary(self, batches: Mapping[str, np.ndarray]) -> dict:
        """Return what a record's header says: the share over all timed batches and its quantiles, and by size.

        `batches` are the columns of the run's records, which stand in the order in which the batches ran. Sizes are in
        tokens, in classes of powers of two: `4` stands for 4 to 7.
        """
        timed, work_ns = self.work_ns()
        if not len(timed):
            return {}
        service_ns = (batches["end_ns"] - batches["start_ns"])[timed]
        size_class = 2 ** np.floor(np.log2(batches["tokens"][timed])).astype(np.int64)
        shares = 1 - work_ns / np.maximum(service_ns, 1)
        return {
            "timed_by": "CUDA events" if self.on_gpu else "wall clock", **share_of(work_ns, service_ns),
            **{name: round(float(np.quantile(shares, at)), 4) for name, at in QUANTILES.items()},
            "by_size": {
                str(size): share_of(work_ns[size_class == size], service_ns[size_class == size])
                for size in np.unique(size_class)
            },
        }  # fmt: skip


def share_of(work_ns: np.ndarray, service_ns: np.ndarray) -> dict:
    """Return how many batches were timed, their mean work and service in ns, and the share that is not work."""
    work, service = float(work_ns.mean()), float(service_ns.mean())
    return {
        "batches": len(work_ns), "work_ns": round(work), "service_ns": round(service),
        "share": round(1 - work / max(service, 1.0), 4),
    }  # fmt: skip
