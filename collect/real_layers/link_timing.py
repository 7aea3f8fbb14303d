"""What it takes to bring an expert of a published shape from host memory to a device, and the link fitted to that."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from moe_replay.collect.devices import synchronise
from moe_replay.traces.runs.link_table import HOST, PAGEABLE, PINNED

FRACTIONS = (1, 2, 4, 8, 32, 128)  # of an expert: an intercept needs small copies too
STREAMS = (1, 2, 3, 4)
PAGE = 4096  # copies begin at multiples of it
LEAST = 3  # repetitions that are made however long they take


def sizes_of(expert_bytes: Sequence[int]) -> list[int]:
    """Return the bytes that are copied: every expert and its fractions, ascending."""
    return sorted({max(1, each // part) for each in expert_bytes for part in FRACTIONS})


@dataclass(frozen=True)
class LinkPlan:
    """Bytes of a copy, numbers of streams, repetitions; beyond `LEAST` none begins after so many `seconds`."""

    sizes: tuple[int, ...]
    streams: tuple[int, ...] = STREAMS
    repetitions: int = 10
    seconds: float = 8.0
    seed: int = 0


class Link:
    """Copies to one device from one kind of memory."""

    def __init__(self, memory: str, device: torch.device, copies: int, size: int) -> None:
        self.memory, self.device = memory, device
        self.source_SB = torch.full((copies, size), 1, dtype=torch.uint8, pin_memory=memory == PINNED)
        self.target_SB = torch.zeros((copies, size), dtype=torch.uint8, device=device)
        self.at = 0
        self.streams = [torch.cuda.Stream(device) for _ in range(copies)] if memory != HOST else [None]

    def turn(self, size: int) -> slice:
        """Return the part of the memory that is next in turn, so that no copy finds its bytes in a cache."""
        first = self.at if self.at + size <= self.source_SB.shape[1] else 0
        self.at = first + -(-size // PAGE) * PAGE
        return slice(first, first + size)

    def took_ns(self, streams: int, size: int) -> int:
        """Return the ns until as many copies as streams, asked for at once, are whole."""
        part = self.turn(size)
        synchronise(self.device)
        started = time.perf_counter_ns()
        for at, stream in enumerate(self.streams[:streams]):
            with nullcontext() if stream is None else torch.cuda.stream(stream):
                self.target_SB[at, :size].copy_(self.source_SB[at, part], non_blocking=True)
        synchronise(self.device)
        return time.perf_counter_ns() - started


def measure_link(device: torch.device, plan: LinkPlan, say: Callable[[str, int], object] = lambda *_: None) -> pa.Table:
    """Return what copies took: host_memory, copies (at once), copy_bytes, repetition, took_ns (until all are whole).

    Sizes and streams come in a new order in every repetition; one before the first is not counted.
    """
    draws, rows = np.random.default_rng(plan.seed), []
    kinds = (PINNED, PAGEABLE) if device.type == "cuda" else (HOST,)
    for memory in kinds:
        streams = plan.streams if memory != HOST else (1,)
        link = Link(memory, device, max(streams), max(plan.sizes))
        deadline = time.monotonic() + plan.seconds / len(kinds)
        visits = [(count, size) for count in streams for size in plan.sizes]
        for repetition in range(-1, plan.repetitions):
            if repetition >= LEAST and time.monotonic() > deadline:
                break
            for at in draws.permutation(len(visits)).tolist():
                rows.append((memory, *visits[at], repetition, link.took_ns(*visits[at])))
            say(memory, repetition)
        del link
    rows = [row for row in rows if row[3] >= 0]
    names = ("host_memory", "copies", "copy_bytes", "repetition", "took_ns")
    types = (pa.string(), pa.int32(), pa.int64(), pa.int32(), pa.int64())
    return pa.table([pa.array(each, kind) for each, kind in zip(zip(*rows, strict=True), types, strict=True)],
                    names=names)  # fmt: skip


def fitted(table: pa.Table) -> list[dict]:
    """Return a link per memory and number of copies at once: latency_ns, bytes_per_s (of all together), error_percent.

    The line latency + bytes / bandwidth goes through the medians of every size. Each counts by its relative error, so
    that small copies, which tell the latency, weigh as much as large ones. `error_percent`: the median of those errors.
    """
    memory, copies = np.array(table["host_memory"].to_pylist()), table["copies"].to_numpy()
    size, ns = table["copy_bytes"].to_numpy(), table["took_ns"].to_numpy()
    links = []
    for kind in dict.fromkeys(memory.tolist()):
        for count in np.unique(copies[memory == kind]).tolist():
            own = (memory == kind) & (copies == count)
            sizes = np.unique(size[own])
            medians = np.array([np.median(ns[own & (size == each)]) for each in sizes])
            latency_ns, ns_per_byte = line(sizes * count, medians)
            errors = np.abs(latency_ns + sizes * count * ns_per_byte - medians) / medians
            links.append({
                "host_memory": kind, "copies": count, "latency_ns": round(latency_ns),
                "bytes_per_s": float(f"{1e9 / ns_per_byte:.6g}"),
                "error_percent": round(100 * float(np.median(errors)), 2),
            })  # fmt: skip
    return links


def line(sizes: np.ndarray, times_ns: np.ndarray) -> tuple[float, float]:
    """Return (intercept, slope) of the line with the least squares of relative errors, neither below zero.

    Where a free line would have to be below zero, it goes through the origin.
    """
    weighted = np.stack([1 / times_ns, sizes / times_ns], axis=1)
    if len(sizes) > 1:
        (intercept, slope), *_ = np.linalg.lstsq(weighted / weighted.max(0), np.ones(len(sizes)), rcond=None)
        intercept, slope = np.array([intercept, slope]) / weighted.max(0)
        if intercept >= 0 and slope > 0:
            return float(intercept), float(slope)
    through = weighted[:, 1]
    return 0.0, float(through.sum() / (through @ through))
