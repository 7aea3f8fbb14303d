"""Where numba keeps the machine code of the compiled engine, in a folder named by its sources and the versions.

numba itself looks only at the file of the function that is called, not at those of what that calls. While numba starts,
loads and compiles, where nearly all that is made is kept, Python looks for no garbage.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

PACKAGE = Path(__file__).parent
SOURCES = (PACKAGE, PACKAGE.parent / "policies", PACKAGE.parent / "config")  # they hold numbers of both engines
SETTINGS = ("NUMBA_OPT", "NUMBA_BOUNDSCHECK")  # of the environment: with other ones numba makes other code


def folder_name() -> str:
    """Return what the folder for these sources' machine code is called: by a digest of theirs and of the versions."""
    digest = hashlib.sha256(f"{version('numba')} {version('llvmlite')}".encode())
    for folder in SOURCES:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return f"engine-{digest.hexdigest()[:16]}"


@cache
def cache_folder() -> Path:
    """Return the folder for these sources' machine code; what other versions left beside it is removed."""
    parent = writable_parent()
    folder = parent / folder_name()
    for old in parent.glob("engine-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return folder / "_".join(os.environ.get(name) or "usual" for name in SETTINGS)


def refuse_changed_sources() -> None:
    """Raise RuntimeError if the sources have changed since they were imported: what is compiled now would be theirs."""
    if cache_folder().parent.name != folder_name():
        raise RuntimeError("the compiled engine's sources changed since this process began: start it again")


@contextlib.contextmanager
def alone(name: str) -> Iterator[None]:
    """Let no other process, and no other thread, compile what has this name at the same time."""
    cache_folder().mkdir(parents=True, exist_ok=True)  # another version may have tidied up
    with FileLock(cache_folder() / f"{name}.lock"):
        yield


@contextlib.contextmanager
def nothing_collected() -> Iterator[None]:
    """Let Python look for no garbage: it would take a sixth of the time of a command's start."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def writable_parent() -> Path:
    """Return where machine code is kept: beside the sources or, where that cannot be written, in the user's cache.

    `NUMBA_CACHE_DIR` moves it elsewhere, as it does for numba. Where nothing of these can be written it is a folder of
    this process alone: code that others could have written is never loaded.
    """
    for place in (beside_the_sources, in_the_users_cache):
        with contextlib.suppress(OSError, RuntimeError):
            place().mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place()):
                return place()
    return Path(tempfile.mkdtemp(prefix="moe-replay-"))


def beside_the_sources() -> Path:
    """Return the folder beside them, or `NUMBA_CACHE_DIR`."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    return Path(given) if given else PACKAGE / "__pycache__"


def in_the_users_cache() -> Path:
    """Return the folder in the user's cache; RuntimeError for a user without a home."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "moe-replay"
