"""Measured links from host memory to a device: what copies took, and in the header latencies and bandwidths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe_replay.traces.errors import InputError
from moe_replay.traces.file.mixed_table import mixed_header

KIND = "link-times"
PINNED, PAGEABLE, HOST = "pinned", "pageable", "host"
MEANINGS = {
    PINNED: "from page-locked host memory: copies run beside the host's thread and beside each other",
    PAGEABLE: "from ordinary host memory: the driver stages every copy, and the host's thread waits for it",
    HOST: "a plain copy within host memory stands in for a link: there is no GPU",
}


@dataclass(frozen=True)
class MeasuredLink:
    """One way to copy, and what it takes: `latency_ns`, and bytes at `bytes_per_s`, of all copies at once together."""

    host_memory: str
    copies: int
    latency_ns: int
    bytes_per_s: float
    error_percent: float


def links_in(path: Path | str) -> tuple[list[MeasuredLink], dict]:
    """Return the links fitted in a table of `collect link`, and its header; InputError if it is none."""
    header = mixed_header(path, KIND)
    return [MeasuredLink(**link) for link in header["links"]], header


def one_at_a_time(path: Path | str) -> MeasuredLink:
    """Return the link of copies one after another from pinned memory, or, measured on a CPU, of plain copies."""
    links, _ = links_in(path)
    for link in links:
        if link.host_memory in (PINNED, HOST) and link.copies == 1:
            return link
    raise InputError(f"{path}: has no copies from pinned memory by one stream; allowed: a table where --streams has 1")
