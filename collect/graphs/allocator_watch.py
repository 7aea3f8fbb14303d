"""What the device's own allocator says while something runs: its peak, and what single operations need in between.

On a CPU these are the events that torch's profiler records of every allocation, kernels' scratch space included. On a
GPU they are the bytes that were asked for from CUDA's caching allocator: what it rounds up or leaves unsplit depends on
the blocks that it happens to hold.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol, Self

import torch
from torch.profiler import ProfilerActivity, profile, record_function

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # or the profiler writes to standard error whenever it starts

MARK = "operation "
REQUESTED = "requested_bytes.all."


class AllocatorWatch(Protocol):
    """A context manager. Afterwards `peak` is the most bytes that were allocated at once beyond those at its beginning.

    `needs[place]`: the same for what ran within `mark(place)`, counted from the mark's beginning.
    """

    peak: int
    needs: dict[int, int]

    def __enter__(self) -> Self:
        """Begin at zero bytes."""

    def __exit__(self, *error: object) -> None:
        """Stop watching."""

    def mark(self, place: int) -> AbstractContextManager:
        """Watch what runs within for itself."""


def watch_on(device: torch.device) -> AllocatorWatch:
    """Return what watches a device's allocator."""
    return CudaWatch(device) if device.type == "cuda" else ProfiledWatch()


class ProfiledWatch:
    """The CPU's allocator, event by event, by torch's profiler."""

    def __init__(self) -> None:
        self.profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self.peak, self.needs = 0, {}

    def __enter__(self) -> Self:
        self.profile.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.profile.__exit__(*error)
        with tempfile.TemporaryDirectory() as folder:
            written = Path(folder) / "events.json"
            self.profile.export_chrome_trace(str(written))
            events = json.loads(written.read_text())["traceEvents"]
        changes = [(each["ts"], each["args"]["Bytes"]) for each in events if each.get("name") == "[memory]"]
        self.peak = highest(change for _, change in changes)
        marks = [each for each in events if each.get("name", "").startswith(MARK) and each.get("ph") == "X"]
        self.count_marks(changes, marks)

    def count_marks(self, changes: list[tuple[float, int]], marks: list[dict]) -> None:
        """Give every mark its own changes; both lie one after the other in time."""
        at = 0
        for mark in sorted(marks, key=lambda each: each["ts"]):
            while at < len(changes) and changes[at][0] < mark["ts"]:
                at += 1
            first = at
            while at < len(changes) and changes[at][0] <= mark["ts"] + mark["dur"]:
                at += 1
            self.needs[int(mark["name"].removeprefix(MARK))] = highest(change for _, change in changes[first:at])

    def mark(self, place: int) -> AbstractContextManager:
        """Watch what runs within for itself."""
        return record_function(f"{MARK}{place}")


def highest(changes: Iterator[int]) -> int:
    """Return the most that changes sum up to on the way, at least 0."""
    alive = most = 0
    for change in changes:
        alive += change
        most = max(most, alive)
    return most


class CudaWatch:
    """CUDA's caching allocator, by the bytes that it was asked for."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.peak, self.needs, self.before = device, 0, {}, 0

    def __enter__(self) -> Self:
        torch.cuda.synchronize(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        self.before = self.requested("current")
        return self

    def __exit__(self, *error: object) -> None:
        self.take_peak()

    def requested(self, which: str) -> int:
        """Return the bytes asked for now (`current`), or at most since the last reset (`peak`)."""
        return torch.cuda.memory_stats(self.device)[f"{REQUESTED}{which}"]

    def take_peak(self) -> int:
        """Return the peak since the last reset, and remember it if it is the highest."""
        most = self.requested("peak")
        self.peak = max(self.peak, most - self.before)
        return most

    @contextmanager
    def mark(self, place: int) -> Iterator[None]:
        """Watch what runs within for itself."""
        self.take_peak()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = self.requested("current")
        yield
        self.needs[place] = max(self.take_peak() - before, 0)
