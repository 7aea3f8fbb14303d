"""`python -m simulate compile`: machine code of the compiled engine, made before anybody waits for it."""

from __future__ import annotations

import time

import joblib
import numpy as np

from simulate.costs import affine
from simulate.engines import simulate
from simulate.policies.config import RunConfig
from simulate.policies.memory.config import MemoryConfig
from simulate.policies.workload import build_workload

FORMS = {"all experts resident": None, "expert memory": MemoryConfig(slots=1)}


def compile_command() -> None:
    """Compile both forms of the engine, one process each, unless it is done; the first run would do it otherwise.

    Example: `python -m simulate compile`
    """
    for name, seconds in joblib.Parallel(len(FORMS))(joblib.delayed(compiled)(name) for name in FORMS):
        print(f"{name}: {seconds:.1f} s")


def compiled(name: str) -> tuple[str, float]:
    """Run a world of two tokens in one form of the engine; return its name and the seconds it took."""
    started = time.perf_counter()
    experts_TLK, ids = np.array([[[0]], [[1]]], np.int16), np.arange(2, dtype=np.int32)
    config = RunConfig(memory=FORMS[name])
    simulate(build_workload(experts_TLK, ids, ids, 2), config, affine(1, 1), {"config": {}}, engine="compiled")
    return name, time.perf_counter() - started
