"""`peak_memory_pass`: what torch.compile compiles within it runs its operations in the order of the least peak memory.

Inductor reorders its scheduler nodes for peak memory by three greedy methods, as the last step before it writes code.
Here that step also searches (`simulate.ordering`, policy best) on the graph of what the code will really allocate
(`scheduler_graph`), and keeps the result where it is better and no worse by inductor's own estimate.
"""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from moe_replay.collect.peak_memory.pass_report import Report
from moe_replay.traces.errors import InputError

TESTED = "2.13"  # the torch whose parts are replaced; in another version they may be others
REPLACES = threading.Lock()  # those parts are the process's: one context at a time


@contextmanager
def peak_memory_pass(seconds: float = 10, seed: int = 0) -> Iterator[Report]:
    """Compile with the order of the least peak memory: `with peak_memory_pass() as report: step(batch)`.

    torch compiles when a function is called for the first time, so that call belongs inside, backward included. Code
    that was compiled before, or is compiled after, keeps inductor's order; what was compiled inside goes on running as
    it is. `seconds`: how long a search may take; there is one per graph, two where the first
    order is worse by inductor's own estimate. Caches of whole graphs are off inside: they might return
    code that was compiled without the pass, or later hand its code to those who did not ask. Kernels' object code is
    cached as ever.

    One context at a time in a process, and it serves the thread that entered it. InputError for another version of
    torch, within another such context, and where inductor compiles in another process. All is as before on leaving.
    """
    check_version("peak_memory_pass")
    check_seconds(seconds)
    if not REPLACES.acquire(blocking=False):
        raise InputError("peak_memory_pass: another one is active in this process; leave it first")
    try:
        from moe_replay.collect.peak_memory.scheduler_steps import replaced  # imports parts of the tested torch

        report = Report()
        with replaced(seconds, seed, report):
            yield report
        if not report.graphs:
            warnings.warn("peak_memory_pass: nothing was compiled inside it: compiled functions compile at their first "
                          "call, and not again", stacklevel=3)  # fmt: skip
    finally:
        REPLACES.release()


def check_version(what: str) -> None:
    """Refuse other versions of torch than the one whose parts were replaced in tests."""
    if not torch.__version__.startswith(f"{TESTED}."):
        raise InputError(f"{what}: torch is {torch.__version__}, allowed {TESTED} (it replaces parts of torch)")


def check_seconds(seconds: float) -> None:
    """Refuse a budget that is none."""
    if not 0 <= seconds < float("inf"):
        raise InputError(f"peak_memory_pass: seconds = {seconds}, allowed 0 and more")
