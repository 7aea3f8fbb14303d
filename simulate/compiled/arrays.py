"""How compiled code reaches the arrays that a record points at (`pointers`): made where they are needed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import carray, from_dtype, types
from numba.extending import intrinsic

from moe_replay.simulate.compiled.checking import held_as
from moe_replay.simulate.compiled.jit import inlined
from moe_replay.simulate.compiled.pointers import Arrays, place_of

I64 = ir.IntType(64)


def pointer(place: int, kind: types.Type) -> Callable:
    """Return the function of compiled code that reads one of a record's pointers: an address, or a length (int64).

    These do not change during a call, and it says so; numba would read them again after every write to any array.
    """

    def pointer_of(context, record):  # noqa: ANN001, ANN202
        def codegen(context, builder, signature, arguments):  # noqa: ANN001, ANN202
            start = builder.bitcast(arguments[0], ir.IntType(8).as_pointer())
            field = builder.gep(start, [I64(record.offset("pointers") + 8 * place)])
            loaded = builder.load(builder.bitcast(field, I64.as_pointer()))
            loaded.set_metadata("invariant.load", builder.module.add_metadata([]))
            return loaded if kind == types.int64 else builder.inttoptr(loaded, context.get_value_type(kind))

        return kind(record), codegen

    return intrinsic(pointer_of)


def array(arrays: Arrays, name: str) -> Callable:
    """Return the function of compiled code that gives the array which a record points at by this name."""
    dtype, dimensions = arrays[name]
    place, held = place_of(arrays, name), held_as(name)
    first = pointer(place, types.CPointer(from_dtype(dtype)))
    lengths = [pointer(place + dimension, types.int64) for dimension in range(1, dimensions + 1)]
    rows, columns, layers = (3 * lengths)[:3]  # only the first `dimensions` of them are read

    def list_of(record: np.void) -> np.ndarray:
        return held(record, carray(first(record), (rows(record),)))

    def table_of(record: np.void) -> np.ndarray:
        return held(record, carray(first(record), (rows(record), columns(record))))

    def cube_of(record: np.void) -> np.ndarray:
        return held(record, carray(first(record), (rows(record), columns(record), layers(record))))

    array_of = (list_of, table_of, cube_of)[dimensions - 1]
    array_of.__qualname__ = f"array_{name}"  # machine code calls it so: the same name in every process, and no other's
    return inlined(array_of)


def element(arrays: Arrays, name: str) -> Callable:
    """Return the function of compiled code that gives one record, by its number, of an array of records pointed at.

    An unsigned number is not counted from the end where it is negative, which saves the question whether it is.
    """
    array_of = array(arrays, name)

    def element_of(record: np.void, number: int) -> np.void:
        return array_of(record)[np.uint64(number)]

    element_of.__qualname__ = f"element_{name}"
    return inlined(element_of)


class ArrayLayout(Arrays):
    """The arrays that a record points at, declared one by one; each declaration returns the functions that reach it."""

    def array(self, name: str, dtype: np.dtype, dimensions: int = 1) -> Callable:
        """Declare an array of numbers; return the function of compiled code that gives it."""
        self[name] = (dtype, dimensions)
        return array(self, name)

    def records(self, name: str, dtype: np.dtype) -> tuple[Callable, Callable]:
        """Declare a list of records; return the functions that give all of them, and one by its number."""
        return self.array(name, dtype), element(self, name)
