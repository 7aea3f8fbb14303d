"""Memory: what an input would take, held against what this machine has left, before anything is filled."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from moe_replay.traces.errors import InputError

try:
    import resource
except ImportError:  # Windows sets a process no limits
    resource = None

GIB = 2**30
CONFIGURATION = 1500  # bytes of one configuration of a grid, its name and its place in the tables of a run


def check_room(what: str, count: int, bytes_each: float) -> None:
    """Refuse what would take more memory than is free; the estimate is in the message.

    `what` says what is counted, such as `--replications: runs`; `count` is how many there are, `bytes_each` what one
    takes.
    """
    needed, free = count * bytes_each, free_bytes()
    if needed > free:
        raise InputError(
            f"{what}: {count:,} would take about {needed / GIB:,.3g} GiB of memory, this machine has"
            f" {free / GIB:,.3g} GiB left; allowed: fewer"
        )


def free_bytes() -> float:
    """Return how much memory this process may still take: what the machine, its group and its own limit leave."""
    return max(0.0, min(left_on_machine(), left_to_group(), left_to_process()))


def left_on_machine() -> float:
    """Return what the system says is available; where it says nothing, all there is."""
    with contextlib.suppress(OSError, ValueError, LookupError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        return 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")


def left_to_group() -> float:
    """Return what a container's limit leaves."""
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        return float(int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return float("inf")


def left_to_process() -> float:
    """Return what a limit on this process's addresses (`ulimit -v`) leaves."""
    if resource is None:
        return float("inf")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return float("inf")
    with contextlib.suppress(OSError, ValueError, LookupError):
        return float(limit - int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE"))
    return float(limit)
