"""Machine code of the compiled engine: kept as object files, and loaded without numba, whose start takes half a second.

An entry (`entries`) is compiled where no object file of it is kept, for these sources, versions and this processor;
llvmlite alone loads it, and it runs without the lock that Python's threads share.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from functools import cache
from importlib.metadata import version
from pathlib import Path

from llvmlite import binding as llvm

from simulate.compiled.bounds import OUT_OF_BOUNDS, Overrun, form_of, usual_form_of
from traces.files import replacing

try:
    import fcntl
except ImportError:
    fcntl = None

PACKAGE = Path(__file__).parent
SOURCES = (PACKAGE, PACKAGE.parent / "policies")  # numbers that both engines need stand in the policies
ONE_AT_A_TIME = threading.Lock()
ENTRIES = {"play_resident": 1, "play_with_memory": 2, "play_masked": 2, "fill": 1}  # how many records each takes
OF_THE_PROCESSOR = ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_OPT")  # what makes numba compile otherwise


def entry(name: str) -> Callable[..., int]:
    """Return an entry by its name, loaded or, where it is not kept, compiled; it takes the addresses of its records.

    Threads and processes that want the same at once wait for the first, which compiles it. Where there are no file
    locks (Windows) each process compiles for itself. The entry raises RuntimeError if compiled code fails, which it
    has no reason to; in the checked form (`bounds`) with the access that was out of bounds.
    """
    with ONE_AT_A_TIME:
        return loaded_entry(form_of(name))


@cache
def loaded_entry(name: str) -> Callable[..., int]:
    """Return an entry, as `entry` does, where no other thread asks for one."""
    kept = cache_folder() / f"{name}-{processor_digest()}.o"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)  # another version may have tidied up
        with open(kept.with_suffix(".lock"), "w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not kept.exists():
                keep_compiled(name, kept)
    symbol, _, code = kept.read_bytes().partition(b"\n")
    return callable_at(loaded(symbol.decode(), code), ENTRIES[usual_form_of(name)])


def keep_compiled(name: str, path: Path) -> None:
    """Compile an entry and write its symbol, a line end and its object code.

    RuntimeError if the sources that would be read now are not those that this process began with.
    """
    if "simulate.compiled.entries" not in sys.modules and path.parent.name != folder_name():
        raise RuntimeError("the compiled engine's sources changed since this process began: start it again")
    from simulate.compiled import entries  # numba, and every function of the engine
    from simulate.compiled.jit import object_code

    symbol, code = object_code(getattr(entries, name), ENTRIES[usual_form_of(name)])
    with replacing(path) as temporary:
        temporary.write_bytes(symbol.encode() + b"\n" + code)


@cache
def execution_engine() -> llvm.ExecutionEngine:
    """Return what holds the machine code of this process."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)


def loaded(symbol: str, code: bytes) -> int:
    """Load object code and return the address of a symbol in it."""
    engine = execution_engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine.get_function_address(symbol)


def callable_at(address: int, records: int) -> Callable[..., int]:
    """Return the function of compiled code at an address (`jit.object_code`) as one of Python."""
    number, error = ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(ctypes.c_void_p)
    native = ctypes.CFUNCTYPE(ctypes.c_int32, number, error, *[ctypes.c_int64] * records)(address)

    def call(*addresses: int) -> int:
        returned, exception = ctypes.c_int64(), ctypes.c_void_p()
        status = native(ctypes.byref(returned), ctypes.byref(exception), *addresses)
        if status == OUT_OF_BOUNDS:
            raise RuntimeError(str(Overrun.from_address(exception.value)))
        if status != 0:
            raise RuntimeError(f"compiled code failed with status {status}")
        return returned.value

    return call


def folder_name() -> str:
    """Return what the folder for these sources' machine code is called: by a digest of theirs and of the versions."""
    digest = hashlib.sha256(f"{version('numba')} {version('llvmlite')}".encode())
    for folder in SOURCES:
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return f"engine-{digest.hexdigest()[:16]}"


def processor_digest() -> str:
    """Return a digest of the processor that machine code is for."""
    kind = [llvm.get_process_triple(), llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
    return hashlib.sha256(repr([*kind, *map(os.environ.get, OF_THE_PROCESSOR)]).encode()).hexdigest()[:16]


@cache
def cache_folder() -> Path:
    """Return the folder for these sources' machine code; what other versions left beside it is removed."""
    parent = writable_parent()
    folder = parent / folder_name()
    for old in parent.glob("engine-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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
