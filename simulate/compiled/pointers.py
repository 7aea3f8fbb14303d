"""Records that point at arrays: what compiled functions hand on instead of dozens of arrays, each with its counter.

A record (`Pointed.record`) keeps the address and the shape of every array beside its own fields. Inside compiled code a
function made by `pointed` turns them back into an array; outside, `Pointed` keeps the arrays alive and checks their
types. Passing them one by one made functions slow to compile, and slow: every call counted references.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

I64 = ir.IntType(64)


def pointer_fields(arrays: dict[str, tuple[np.dtype, int]]) -> list[tuple[str, str]]:
    """Return the fields in which a record keeps address and shape of arrays: {name: (element type, dimensions)}."""
    return [
        (f"{name}_{field}", "i8")
        for name, (_, dimensions) in arrays.items()
        for field in ("at", *map(str, range(dimensions)))
    ]


def pointed(name: str, dtype: np.dtype, dimensions: int) -> Callable:
    """Return the function of compiled code that gives the array which a record points at by this name."""
    array_type = types.Array(from_dtype(dtype), dimensions, "C")

    def array_of(context, record):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, arguments):  # noqa: ANN001, ANN202
            def field(which):  # noqa: ANN001, ANN202
                offset = I64(record.offset(f"{name}_{which}"))
                start = builder.bitcast(arguments[0], ir.IntType(8).as_pointer())
                return builder.load(builder.bitcast(builder.gep(start, [offset]), I64.as_pointer()))

            array = context.make_array(array_type)(context, builder)
            size = I64(context.get_abi_sizeof(context.get_data_type(array_type.dtype)))
            shape = [field(axis) for axis in range(dimensions)]
            strides = [size]
            for length in reversed(shape[1:]):
                strides.insert(0, builder.mul(strides[0], length))
            data = builder.inttoptr(field("at"), array.data.type)
            populate_array(array, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
            return array._getvalue()

        return array_type(record), codegen

    return intrinsic(array_of)


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
