"""Records that point at arrays: what compiled functions hand on instead of dozens of arrays, each with its counter.

A record (`Pointed.record`) keeps the address and the shape of every array beside its own fields. Inside compiled code a
function made by `pointed` turns them back into an array; outside, `Pointed` keeps the arrays alive and checks their
types. Passing them one by one made functions slow to compile, and slow: every call counted references.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from simulate.compiled.jit import compiled


@intrinsic
def as_pointer(typingcontext, address):  # noqa: ANN001, ANN201 (numba reads the parameters' names)
    """Return an address as a pointer."""

    def codegen(context, builder, signature, arguments):  # noqa: ANN001, ANN202
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


def pointer_fields(arrays: dict[str, tuple[np.dtype, int]]) -> list[tuple[str, str]]:
    """Return the fields in which a record keeps address and shape of arrays: {name: (element type, dimensions)}."""
    return [
        (f"{name}_{field}", "i8")
        for name, (_, dimensions) in arrays.items()
        for field in ("at", *map(str, range(dimensions)))
    ]


def pointed(name: str, dtype: np.dtype, dimensions: int) -> Callable:
    """Return the compiled function that gives the array which a record points at by this name."""
    at, first, second, third = (f"{name}_{field}" for field in ("at", "0", "1", "2"))
    if dimensions == 1:

        def array(record):  # noqa: ANN001, ANN202
            return carray(as_pointer(record[at]), record[first], dtype)

    elif dimensions == 2:

        def array(record):  # noqa: ANN001, ANN202
            return carray(as_pointer(record[at]), (record[first], record[second]), dtype)

    else:

        def array(record):  # noqa: ANN001, ANN202
            return carray(as_pointer(record[at]), (record[first], record[second], record[third]), dtype)

    return compiled(array)


class Pointed:
    """A record and the arrays it points at, `arrays` as in `pointer_fields`; both live as long as this does."""

    def __init__(self, dtype: np.dtype, arrays: dict[str, tuple[np.dtype, int]], **fields: float) -> None:
        self.record = np.zeros(1, dtype)
        self.arrays, self.held = arrays, {}
        for name, value in fields.items():
            self.record[name] = value

    def put(self, **arrays: np.ndarray) -> None:
        """Let the record point at these arrays; TypeError for another type, shape or layout than was declared."""
        for name, array in arrays.items():
            dtype, dimensions = self.arrays[name]
            flags = array.flags
            if array.dtype != dtype or array.ndim != dimensions or not (flags.c_contiguous and flags.writeable):
                raise TypeError(f"{name} is {array.dtype} in {array.ndim} dimensions, declared {dtype} in {dimensions}")
            self.held[name] = array
            self.record[f"{name}_at"] = array.ctypes.data
            for axis, length in enumerate(array.shape):
                self.record[f"{name}_{axis}"] = length

    def __getitem__(self, name: str) -> np.ndarray:
        return self.held[name]

    def __getattr__(self, name: str) -> float:
        return self.record[name][0]
