"""How the compiled engine is compiled, and where machine code is kept: anew whenever any of its sources changes.

numba's own cache looks at the file of one function only and would not notice a change in what it calls. So its folder
carries a digest of all sources of this package, and of the versions that made the code.
"""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numba
import numpy as np

from simulate.compiled.parts import PartCompiler

try:
    import fcntl
except ImportError:
    fcntl = None

PACKAGE = Path(__file__).parent
OPTIONS = {"nogil": True, "error_model": "numpy"}

# For functions that only compiled functions call.
compiled = numba.njit(**OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=PartCompiler)


def source_digest() -> str:
    """Return a digest of the package's sources and of numba's version."""
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> Path:
    """Return the folder for this version's machine code, beside the sources or, where that cannot be written, apart.

    What other versions left there is removed. `NUMBA_CACHE_DIR` moves the whole elsewhere, as it does for numba.
    """
    given = os.environ.get("NUMBA_CACHE_DIR")
    parent = Path(given) if given else PACKAGE / "__pycache__"
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError:
        parent = Path(tempfile.gettempdir()) / f"moe-replay-{os.getuid()}"
    folder = parent / f"engine-{source_digest()}"
    for old in parent.glob("engine-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compile_once(function: Callable, *arguments: np.ndarray) -> None:
    """Compile an entry for arguments of these types unless it is; processes that want the same wait for the first.

    What the first has compiled the others load. Where there are no file locks (Windows) each compiles for itself.
    """
    types = tuple(numba.typeof(argument) for argument in arguments)
    if types in function.overloads:
        return
    with open(cache_folder() / f"{function.py_func.__name__}.lock", "w") as lock:
        if fcntl is not None:
            fcntl.flock(lock, fcntl.LOCK_EX)
        with nothing_collected():
            function.compile(types)


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Let Python look for no garbage: it would take an eighth of the time of compiling, where nearly all is kept."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def entry(function: Callable) -> Callable:
    """Compile a function that Python calls, and keep its machine code, that of all it calls included."""
    before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(cache_folder())
    try:
        return numba.njit(cache=True, **OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = before
