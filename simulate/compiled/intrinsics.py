"""Functions of compiled code that numba has no words for: an address as a record, what a record points at as arrays."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from simulate.compiled.checking import CheckedArray, CheckedRecord, hold
from simulate.compiled.pointers import Arrays, place_of

I64 = ir.IntType(64)


def record_at(dtype: np.dtype, checked: bool = False) -> Callable:
    """Return the function of compiled code that takes an address for that of one record.

    `checked`: all that is given this record is compiled in its checked form (`checking`).
    """
    record_type = CheckedRecord(from_dtype(dtype)) if checked else from_dtype(dtype)

    def record_of(context, address):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, arguments):  # noqa: ANN001, ANN202
            return builder.inttoptr(arguments[0], context.get_value_type(record_type))

        return record_type(types.int64), codegen

    return intrinsic(record_of)


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
    plain_type, place = types.Array(from_dtype(dtype), dimensions, "C"), place_of(arrays, name)

    def array_of(context, record):  # noqa: ANN001, ANN202
        array_type = CheckedArray(plain_type, name) if isinstance(record, CheckedRecord) else plain_type

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
            if isinstance(record, CheckedRecord):
                hold(context, builder, name, arguments[1], pointer(builder, record, arguments[0], place + 1))
            offset = builder.mul(arguments[1], I64(dtype.itemsize))
            address = builder.add(pointer(builder, record, arguments[0], place), offset)
            return builder.inttoptr(address, context.get_value_type(element_type))

        return element_type(record, types.int64), codegen

    return intrinsic(element_of)
