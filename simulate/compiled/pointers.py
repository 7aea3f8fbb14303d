"""Records that point at arrays: what compiled functions hand on instead of dozens of arrays, each with its counter.

A record (`Pointed.record`) keeps the address and the shape of every array beside its own fields. Inside compiled code
functions made by `array` and `element` turn them back into an array or one of its records; outside, `Pointed` keeps the
arrays alive and checks their types. Passing them one by one made functions slow to compile, and slow: every call
counted references.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

I64 = ir.IntType(64)
Arrays = dict[str, tuple[np.dtype, int]]  # {name: (element type, dimensions)}


def pointers_field(arrays: Arrays) -> tuple[str, str, tuple[int]]:
    """Return the field in which a record keeps the address, then the shape, of every array."""
    return "pointers", "i8", (sum(1 + dimensions for _, dimensions in arrays.values()),)


def place_of(arrays: Arrays, name: str) -> int:
    """Return where in that field the address of an array stands."""
    before = list(arrays)[: list(arrays).index(name)]
    return sum(1 + arrays[other][1] for other in before)


def pointer(builder: ir.IRBuilder, record: types.Record, at: ir.Value, place: int) -> ir.Value:
    """Return what a record, given by its type and its address, keeps at a place of its pointers."""
    start = builder.bitcast(at, ir.IntType(8).as_pointer())
    field = builder.gep(start, [I64(record.offset("pointers") + 8 * place)])
    loaded = builder.load(builder.bitcast(field, I64.as_pointer()))
    loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
    return loaded


def array(arrays: Arrays, name: str) -> Callable:
    """Return the function of compiled code that gives the array which a record points at by this name."""
    dtype, dimensions = arrays[name]
    array_type, place = types.Array(from_dtype(dtype), dimensions, "C"), place_of(arrays, name)

    def array_of(context, record):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, arguments):  # noqa: ANN001, ANN202
            made = context.make_array(array_type)(context, builder)
            size = I64(dtype.itemsize)
            data, *shape = [pointer(builder, record, arguments[0], place + i) for i in range(1 + dimensions)]
            strides = [size]
            for length in reversed(shape[1:]):
                strides.insert(0, builder.mul(strides[0], length))
            data = builder.inttoptr(data, made.data.type)
            populate_array(made, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
            return made._getvalue()

        return array_type(record), codegen

    return intrinsic(array_of)


def element(arrays: Arrays, name: str) -> Callable:
    """Return the function of compiled code that gives one record, by its number, of an array of records pointed at.

    Faster to compile, and to run, than the array and then its element: no shape is looked at, -1 is not the last.
    """
    dtype, place = arrays[name][0], place_of(arrays, name)
    element_type = from_dtype(dtype)

    def element_of(context, record, number):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, arguments):  # noqa: ANN001, ANN202
            offset = builder.mul(arguments[1], I64(dtype.itemsize))
            address = builder.add(pointer(builder, record, arguments[0], place), offset)
            return builder.inttoptr(address, context.get_value_type(element_type))

        return element_type(record, types.int64), codegen

    return intrinsic(element_of)


class Pointed:
    """A record and the arrays it points at; both live as long as this does."""

    def __init__(self, dtype: np.dtype, arrays: Arrays, **fields: float) -> None:
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
            place = place_of(self.arrays, name)
            self.record["pointers"][0, place : place + 1 + dimensions] = array.ctypes.data, *array.shape

    def __getitem__(self, name: str) -> np.ndarray:
        return self.held[name]

    def __getattr__(self, name: str) -> float:
        return self.record[name][0]
