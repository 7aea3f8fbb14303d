"""`python -m simulate compile`: machine code of the compiled engine, made before anybody waits for it."""

from __future__ import annotations

import time

import joblib

# The longest first, so that no processor waits long for the last; those of one line share what both call.
FORMS = {
    "masked gating": ["fill", "play_masked"],
    "expert memory": ["play_with_memory"],
    "all experts resident": ["play_cluster_step", "play_linked_queues", "play_resident"],
    "orders of graphs": [],
    "miss counts": ["replay_accesses"],
}


def compile_command() -> None:
    """Compile every form of the engine, side by side, unless it is done; the first run would do it otherwise.

    Example: `python -m simulate compile`
    """
    jobs = min(len(FORMS), joblib.cpu_count())
    for name, seconds in joblib.Parallel(jobs)(joblib.delayed(compiled)(name) for name in FORMS):
        print(f"{name}: {seconds:.1f} s")


def compiled(name: str) -> tuple[str, float]:
    """Load, or compile first, the entries of one form of the engine; return its name and the seconds it took."""
    from moe_replay.simulate.compiled import entries  # imports numba, which others do not need

    started = time.perf_counter()
    if name == "orders of graphs":
        from moe_replay.simulate.ordering.deadline import compile_searches

        compile_searches()
    for each in FORMS[name]:
        getattr(entries, each).prepare()
    return name, time.perf_counter() - started
