"""The checked form of compiled code: an access beyond an array's bounds ends the run instead of going elsewhere.

A function that is given a `CheckedRecord` is compiled in this form: what the record points at (`intrinsics`) is held to
its bounds in every dimension, and a negative index is not counted from the end. Nothing changes for other records.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba import types
from numba.core.cgutils import unpack_tuple
from numba.core.datamodel import models
from numba.extending import lower_builtin, register_model
from numba.np.arrayobj import getitem_array_tuple, getitem_arraynd_intp, make_array, setitem_array

from simulate.compiled.bounds import OUT_OF_BOUNDS

I32, I64, BYTES = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
OVERRUN = ir.LiteralStructType([BYTES, I64, I64])  # as `bounds.Overrun`


class CheckedRecord(types.Record):
    """A record like another whose arrays are held to their bounds; a mark among its fields tells the two apart."""

    def __init__(self, plain: types.Record) -> None:
        fields = [(name, field._asdict()) for name, field in plain.fields.items()]
        super().__init__([*fields, ("checked", {"type": types.int8, "offset": 0})], plain.size, plain.aligned)

    def can_convert_to(self, typing_context: object, other: types.Type) -> None:
        """Refuse to stand for a record whose arrays are not checked."""


class CheckedArray(types.Array):
    """An array by name, held to its bounds; so are its parts."""

    def __init__(self, plain: types.Array, called: str) -> None:
        self.called = called
        name = f"checked({called}, {plain})"
        super().__init__(plain.dtype, plain.ndim, plain.layout, not plain.mutable, name, plain.aligned)

    @property
    def key(self) -> tuple:
        """What tells it from other types."""
        return (*super().key, self.called)

    @property
    def mangling_args(self) -> tuple[str, list]:
        """What tells functions that are given it from others."""
        name, args = super().mangling_args
        return name, [*args, self.called]

    def copy(self, *args: object, **fields: object) -> CheckedArray:
        """Return the type of a part of it."""
        return CheckedArray(super().copy(*args, **fields), self.called)


register_model(CheckedRecord)(models.RecordModel)
register_model(CheckedArray)(models.ArrayModel)


def hold(context, builder: ir.IRBuilder, name: str, index: ir.Value, length: ir.Value) -> None:  # noqa: ANN001
    """Write code that goes on only if 0 <= index < length, and else ends its function with `OUT_OF_BOUNDS`."""
    with builder.if_then(builder.icmp_unsigned(">=", index, length), likely=False):
        module = builder.module
        found = ir.GlobalVariable(module, OVERRUN, module.get_unique_name("overrun"))
        found.linkage, found.initializer = "internal", ir.Constant(OVERRUN, None)
        called = context.insert_const_string(module, name)
        for place, value in enumerate((called, index, length)):
            builder.store(value, builder.gep(found, [I32(0), I32(place)]))
        exception = builder.function.args[1]  # as `jit.object_code` has it
        builder.store(builder.bitcast(found, exception.type.pointee), exception)
        builder.ret(I32(OUT_OF_BOUNDS))


def hold_all(context, builder: ir.IRBuilder, array_type: CheckedArray, array: ir.Value, index_type, index) -> None:  # noqa: ANN001
    """Write code that holds an index, or several, to the bounds of an array."""
    lengths = unpack_tuple(builder, make_array(array_type)(context, builder, array).shape)
    many = isinstance(index_type, types.BaseTuple)
    kinds, indices = (index_type.types, unpack_tuple(builder, index)) if many else ((index_type,), [index])
    if not all(isinstance(kind, types.Integer) for kind in kinds):
        raise NotImplementedError(f"{array_type.called} is looked up by {index_type}: only numbers are checked")
    for each, length in zip(indices, lengths, strict=False):  # fewer indices give a part of the array
        hold(context, builder, array_type.called, each, length)


@lower_builtin(operator.getitem, CheckedArray, types.Integer)
@lower_builtin(operator.getitem, CheckedArray, types.BaseTuple)
def get_checked(context, builder, signature, arguments):  # noqa: ANN001, ANN201
    """Write code that looks up an element or a part."""
    hold_all(context, builder, signature.args[0], arguments[0], signature.args[1], arguments[1])
    many = isinstance(signature.args[1], types.BaseTuple)
    return (getitem_array_tuple if many else getitem_arraynd_intp)(context, builder, signature, arguments)


@lower_builtin(operator.setitem, CheckedArray, types.Any, types.Any)
def set_checked(context, builder, signature, arguments):  # noqa: ANN001, ANN201
    """Write code that sets an element."""
    hold_all(context, builder, signature.args[0], arguments[0], signature.args[1], arguments[1])
    return setitem_array(context, builder, signature, arguments)
