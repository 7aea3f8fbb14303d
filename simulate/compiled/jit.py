"""How the compiled engine is compiled: every function as a part, and an entry with all its parts into object code."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numba import types
from numba.core.registry import CPUDispatcher

from simulate.compiled.parts import PartCompiler, emitted

OPTIONS = {"nopython": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
NARROW = (types.Boolean, types.Integer)


class Part(CPUDispatcher):
    """A function in one form only for all integers: else it was compiled anew for every width that fields have."""

    def compile(self, signature: tuple[types.Type, ...]) -> int:
        """Compile for these types, with int64 for the integers among them, unless it is done."""
        wide = [types.int64 if isinstance(each, NARROW) and each != types.uint64 else each for each in signature]
        return super().compile(tuple(wide))


def compiled(function: Callable) -> Part:
    """Let compiled code call a function. Python calls none of them, but the object code of entries (`machine_code`)."""
    return Part(function, targetoptions=OPTIONS, pipeline_class=PartCompiler)


def object_code(entry: Part, records: int) -> tuple[str, bytes]:
    """Return an entry's symbol and its object code, that of all it calls included; it takes so many addresses.

    What stands under the symbol is a function as numba calls them: int32 status (0: went well), of a pointer to the
    int64 it returns, one to an exception it does not raise, then the addresses (int64).
    """
    with nothing_collected():
        addresses = (types.int64,) * records
        entry.compile(addresses)
        made = entry.overloads[addresses]
        return made.fndesc.llvm_func_name, emitted(made.library, made.fndesc.llvm_func_name)


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
